//! The shape of each kind: how often it appears, how long its content is, which tags it carries.
//!
//! The numbers model the traffic of public social relays. It must never hold state: everything it needs is the pool's.

use super::pool::{Body, Note, Pool};
use crate::random::{Quantiles, Random};

/// Kinds by permille; they add up to 1,000.
const KINDS: [(u16, usize); 12] = [
    (1, 490),
    (7, 255),
    (6, 70),
    (0, 46),
    (9735, 25),
    (1059, 40),
    (10002, 25),
    (4, 16),
    (3, 11),
    (1985, 10),
    (30023, 7),
    (5, 5),
];

const NOTE_BYTES: Quantiles = Quantiles(&[
    (0, 2),
    (100, 20),
    (250, 60),
    (500, 190),
    (750, 400),
    (900, 760),
    (960, 1900),
    (990, 3400),
    (1000, 6000),
]);
const ARTICLE_BYTES: Quantiles =
    Quantiles(&[(0, 300), (100, 624), (250, 1822), (500, 4136), (750, 7285), (900, 11067), (1000, 40000)]);
const PROFILE_BYTES: Quantiles = Quantiles(&[(0, 10), (250, 40), (500, 120), (750, 250), (950, 600), (1000, 1500)]);
const WRAP_BYTES: Quantiles = Quantiles(&[(0, 656), (250, 1030), (750, 1142), (950, 1600), (1000, 4000)]);
const MESSAGE_BYTES: Quantiles = Quantiles(&[(0, 40), (500, 92), (900, 220), (1000, 2000)]);
/// At most 800 follows, 60 KB: longer lists exist, but many relays refuse events above 64 KiB by default.
const FOLLOWS: Quantiles = Quantiles(&[(0, 5), (200, 70), (500, 280), (800, 560), (1000, 800)]);

/// A kind, by how often it appears.
pub fn kind(random: &mut Random) -> u16 {
    let mut at = random.below(1000);
    for (kind, permille) in KINDS {
        if at < permille {
            return kind;
        }
        at -= permille;
    }
    1
}

/// Tags and content of an event of `kind` by `author`.
pub fn body(pool: &mut Pool<'_>, kind: u16, author: u32) -> Body {
    let mut body = Body::default();
    match kind {
        0 => profile(pool, &mut body),
        3 => follows(pool, &mut body),
        4 => message(pool, &mut body),
        5 => deletion(pool, &mut body),
        6 => repost(pool, &mut body),
        7 => reaction(pool, &mut body),
        1059 => wrap(pool, &mut body),
        1985 => label(pool, &mut body),
        9735 => zap(pool, &mut body),
        10002 => relays(pool, &mut body),
        30023 => article(pool, author, &mut body),
        _ => note(pool, &mut body),
    }
    body
}

fn note(pool: &mut Pool<'_>, body: &mut Body) {
    if pool.random.chance(450)
        && let Some(parent) = pool.target()
    {
        reply(pool, &parent, body);
    }
    if pool.random.chance(30) && !pool.articles.is_empty() {
        let at = pool.random.below(pool.articles.len());
        let article = pool.articles[at].clone();
        body.tags.push(&["a", &article.coordinate, "", "mention"]);
        body.tags.push(&["p", pool.authors.pubkey(article.author)]);
    }
    if pool.random.chance(380) {
        for _ in 0..pool.random.between(1, 5) {
            let tag = pool.hashtag();
            body.tags.push(&["t", &tag]);
        }
    }
    if pool.random.chance(310) {
        body.tags.push(&["client", "example client", "31990:0000:example"]);
    }
    if pool.random.chance(200) {
        body.tags.push(&["r", "https://example.org/read/more"]);
    }
    let bytes = NOTE_BYTES.sample(&mut pool.random).max(pool.content_bytes);
    text(pool, bytes, body);
}

/// NIP-10: the root and the parent note, then the participants of the thread.
fn reply(pool: &mut Pool<'_>, parent: &Note, body: &mut Body) {
    let (root, root_author) = parent.root.clone().unwrap_or((parent.id.clone(), parent.author));
    let authors = pool.authors;
    body.tags.push(&["e", &root, "wss://relay.example.com/", "root"]);
    if root != parent.id {
        body.tags.push(&["e", &parent.id, "", "reply"]);
    }
    body.tags.push(&["p", authors.pubkey(parent.author)]);
    if root_author != parent.author {
        body.tags.push(&["p", authors.pubkey(root_author)]);
    }
    if pool.random.chance(100) {
        for _ in 0..pool.random.between(1, 8) {
            let author = pool.popular_author();
            body.tags.push(&["p", authors.pubkey(author)]);
        }
    }
    body.root = Some((root, root_author));
}

fn reaction(pool: &mut Pool<'_>, body: &mut Body) {
    point_at(pool, body);
    if pool.random.chance(600) {
        body.tags.push(&["k", "1"]);
    }
    body.content.push_str(["+", "🤙", "❤️", "🔥", "+"][pool.random.below(5)]);
}

fn repost(pool: &mut Pool<'_>, body: &mut Body) {
    point_at(pool, body);
    if pool.random.chance(450) {
        let mut inner = String::new();
        pool.words.text(&mut pool.random, 160, &mut inner);
        let (id, sig) = (random_hex(pool, 32), random_hex(pool, 64));
        let inner = inner.replace(['"', '\\', '\n', '\t'], " ");
        body.content = format!(
            "{{\"id\":\"{id}\",\"pubkey\":\"{id}\",\"created_at\":1700000000,\"kind\":1,\"tags\":[],\"content\":\"{inner}\",\"sig\":\"{sig}\"}}"
        );
    }
}

fn zap(pool: &mut Pool<'_>, body: &mut Body) {
    point_at(pool, body);
    let zapper = pool.popular_author();
    let invoice = random_hex(pool, 140);
    body.tags.push(&["P", pool.authors.pubkey(zapper)]);
    body.tags.push(&["bolt11", &format!("lnbc210n1p{invoice}")]);
    let (id, sig) = (random_hex(pool, 32), random_hex(pool, 64));
    let request = format!(
        "{{\"id\":\"{id}\",\"pubkey\":\"{}\",\"created_at\":1700000000,\"kind\":9734,\"tags\":[[\"relays\",\"wss://relay.example.com\"],[\"amount\",\"21000\"]],\"content\":\"\",\"sig\":\"{sig}\"}}",
        pool.authors.pubkey(zapper)
    );
    body.tags.push(&["description", &request]);
    body.tags.push(&["preimage", &random_hex(pool, 32)]);
}

/// `e` and `p` tags to a recent note.
fn point_at(pool: &mut Pool<'_>, body: &mut Body) {
    if let Some(note) = pool.target() {
        body.tags.push(&["e", &note.id, "wss://relay.example.com/"]);
        body.tags.push(&["p", pool.authors.pubkey(note.author)]);
    }
}

fn profile(pool: &mut Pool<'_>, body: &mut Body) {
    let mut about = String::new();
    let bytes = PROFILE_BYTES.sample(&mut pool.random);
    pool.words.text(&mut pool.random, bytes, &mut about);
    let about = about.replace(['"', '\\', '\t'], "").replace('\n', "\\n");
    let name = pool.words.word(&mut pool.random).to_string();
    let picture = random_hex(pool, 16);
    body.content = format!(
        "{{\"name\":\"{name}\",\"display_name\":\"{name}\",\"about\":\"{about}\",\"picture\":\"https://image.example.com/{picture}.jpg\",\"nip05\":\"{name}@example.com\",\"lud16\":\"{name}@pay.example.com\"}}"
    );
}

fn follows(pool: &mut Pool<'_>, body: &mut Body) {
    let authors = pool.authors;
    for _ in 0..FOLLOWS.sample(&mut pool.random) {
        let author = pool.popular_author();
        body.tags.push(&["p", authors.pubkey(author)]);
    }
}

fn relays(pool: &mut Pool<'_>, body: &mut Body) {
    for number in 0..pool.random.between(2, 6) {
        let url = format!("wss://relay{}.example.com/", pool.random.below(50));
        if number % 3 == 2 {
            body.tags.push(&["r", &url, "read"]);
        } else {
            body.tags.push(&["r", &url]);
        }
    }
}

fn message(pool: &mut Pool<'_>, body: &mut Body) {
    let author = pool.popular_author();
    body.tags.push(&["p", pool.authors.pubkey(author)]);
    let bytes = MESSAGE_BYTES.sample(&mut pool.random);
    body.content = format!("{}?iv={}", random_base64(pool, bytes), random_base64(pool, 24));
}

fn wrap(pool: &mut Pool<'_>, body: &mut Body) {
    let author = pool.popular_author();
    body.tags.push(&["p", pool.authors.pubkey(author)]);
    let bytes = WRAP_BYTES.sample(&mut pool.random);
    body.content = random_base64(pool, bytes);
}

/// Deletes something this relay never held (clients send deletions to every relay), so that what a query finds does
/// not depend on the order of arrival.
fn deletion(pool: &mut Pool<'_>, body: &mut Body) {
    let id = random_hex(pool, 32);
    body.tags.push(&["e", &id]);
    body.tags.push(&["k", "1"]);
}

fn label(pool: &mut Pool<'_>, body: &mut Body) {
    body.tags.push(&["L", "example.labels"]);
    body.tags.push(&["l", "seen", "example.labels"]);
    let authors = pool.authors;
    for _ in 0..pool.random.between(10, 26) {
        if let Some(note) = pool.target() {
            body.tags.push(&["e", &note.id]);
            if pool.random.chance(500) {
                body.tags.push(&["p", authors.pubkey(note.author)]);
            }
        }
    }
}

fn article(pool: &mut Pool<'_>, author: u32, body: &mut Body) {
    let d = format!("{}-{author}-{}", pool.words.word(&mut pool.random), pool.written);
    let mut title = String::new();
    pool.words.text(&mut pool.random, 50, &mut title);
    let mut summary = String::new();
    pool.words.text(&mut pool.random, 160, &mut summary);
    body.tags.push(&["d", &d]);
    body.tags.push(&["title", &title]);
    body.tags.push(&["summary", &summary]);
    body.tags.push(&["published_at", "1700000000"]);
    for _ in 0..pool.random.between(1, 7) {
        let tag = pool.hashtag();
        body.tags.push(&["t", &tag]);
    }
    let bytes = ARTICLE_BYTES.sample(&mut pool.random);
    text(pool, bytes, body);
    body.article = Some(d);
}

fn text(pool: &mut Pool<'_>, bytes: usize, body: &mut Body) {
    pool.words.text(&mut pool.random, bytes, &mut body.content);
}

fn random_hex(pool: &mut Pool<'_>, bytes: usize) -> String {
    let mut raw = vec![0u8; bytes];
    pool.random.fill(&mut raw);
    faster_hex::hex_string(&raw)
}

fn random_base64(pool: &mut Pool<'_>, characters: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut raw = vec![0u8; characters];
    pool.random.fill(&mut raw);
    raw.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
}
