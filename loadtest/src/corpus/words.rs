//! Text that looks like posts: skewed word frequencies, line breaks, links, a few scripts.
//!
//! It must never hold anyone's real words, and never emit a control character that NIP-01 does not name.

use crate::random::Random;

const WORDS: &str = "the to and of a i in is it you that for on my this with have be so not just are but was \
    we they can all like what one about if up time do out good more from people get no when your at know \
    will would now nostr relay note today think really new here make some their there want see bitcoin who \
    an how or go love need because as going back work still than has first me right day them been over world \
    thing other only zap thanks way even most why much could years something every always never better us \
    morning gm free value money open source client build running block freedom mind read write long great \
    life home another thought point feel friend words keep start each place while little might old end next \
    book music coffee garden river mountain winter summer bread photo train market signal energy network \
    protocol keys public private simple server story question answer idea reason code test ship release \
    version error fixed update learn teach family child school house street city country nature animal \
    weather storm light dark water fire stone paper glass green blue red white yellow quiet loud early late \
    über straße año mañana café été déjà forêt ação coração こんにちは ありがとう 今日 世界 привет мир спасибо \
    🤙 ⚡ 🫂 🚀 🌱 ☕ 😂 🔥";

const HOSTS: [&str; 6] = [
    "image.example.com",
    "void.example.net",
    "media.example.org",
    "blossom.example.com",
    "video.example.net",
    "cdn.example.org",
];

/// The words and the hashtags the corpus is made of.
#[derive(Debug)]
pub struct Words {
    words: Vec<&'static str>,
}

impl Words {
    /// Splits the built-in list.
    pub fn new() -> Self {
        Self { words: WORDS.split_whitespace().collect() }
    }

    /// A word; the front of the list is far more frequent than its end.
    pub fn word(&self, random: &mut Random) -> &'static str {
        let bound = random.below(self.words.len()) + 1;
        self.words[random.below(bound)]
    }

    /// Appends running text until `out` has grown by about `bytes`.
    pub fn text(&self, random: &mut Random, bytes: usize, out: &mut String) {
        let end = out.len() + bytes;
        while out.len() < end {
            match random.below(200) {
                0..=3 => link(random, out),
                4..=9 => out.push_str(".\n\n"),
                10..=17 => out.push_str(", "),
                18..=23 => out.push_str(". "),
                24 => quoted(self.word(random), out),
                25 => out.push('\t'),
                _ => {
                    out.push_str(self.word(random));
                    out.push(' ');
                }
            }
        }
    }

    /// The hashtag of a rank: readable for the frequent ones, numbered for the long tail.
    pub fn hashtag(&self, rank: usize) -> String {
        let word = self.words[120 + rank * 7 % 75];
        if rank < 28 { word.to_string() } else { format!("{word}{rank}") }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::new()
    }
}

fn link(random: &mut Random, out: &mut String) {
    let mut name = [0u8; 16];
    random.fill(&mut name);
    let host = HOSTS[random.below(HOSTS.len())];
    out.push_str("https://");
    out.push_str(host);
    out.push('/');
    faster_hex::hex_append(&name, out);
    out.push_str(".jpg ");
}

fn quoted(word: &str, out: &mut String) {
    out.push('"');
    out.push_str(word);
    out.push_str("\" \\ ");
}
