//! Who is logged in to the dashboard, and what opens a session: a signed answer to a challenge, or a link that is good
//! once.
//!
//! Tokens are kept as their hashes. A challenge is kept nowhere: it carries its time and a code that only this process
//! can make, so asking for many of them holds no memory. `now` is passed in.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::nostr::{EventId, Pubkey, hex};

/// Sessions at a time. One more ends the oldest, so nobody is locked out by browsers that were left open.
pub const MAX_SESSIONS: usize = 32;

/// Links that were not used yet. One more voids the oldest.
const MAX_LINKS: usize = 8;

/// How long a link is good, and a challenge.
pub const LINK_FOR: Duration = Duration::from_secs(300);
const CHALLENGE_FOR: Duration = Duration::from_secs(120);

/// For how long signed logins are remembered, each of which opens one session. NIP-98 gives it 60 s in either
/// direction.
const LOGIN_FOR: Duration = Duration::from_secs(180);

/// Logins that are remembered; while there are as many, no other is taken. All of them are admins'.
const MAX_LOGINS: usize = 256;

/// Who has a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Visitor {
    /// An admin, by a signature.
    Key(Pubkey),
    /// A user of this machine, `uid:` and a number, by a link.
    User(String),
}

impl Visitor {
    /// As the audit names them.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Key(key) => key.to_string(),
            Self::User(name) => name.clone(),
        }
    }
}

/// A token, which is told once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token(String);

impl Token {
    /// Its text: 64 hexadecimal digits.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Why there is no session.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoSession {
    /// The login was used before.
    #[error("this login was used before; sign a new one")]
    Used,
    /// Too many logins lately.
    #[error("there were too many logins; try again in a minute")]
    TooMany,
    /// No such link, or it was used or is too old.
    #[error("this link was used before, or is too old: `weir dashboard` prints another one")]
    Link,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// See the module.
pub struct Sessions {
    began: Instant,
    secret: [u8; 32],
    held: Mutex<Held>,
}

struct Held {
    sessions: Tokens,
    links: Tokens,
    /// The oldest first.
    logins: VecDeque<(EventId, Instant)>,
}

/// Tokens that were given out: whose each is, and when it ends. One more than `most` voids the oldest.
struct Tokens {
    most: usize,
    last: Duration,
    /// The oldest first.
    given: VecDeque<(TokenHash, Visitor, Instant)>,
}

/// A token as it is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TokenHash([u8; 32]);

impl TokenHash {
    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl Tokens {
    const fn new(most: usize, last: Duration) -> Self {
        Self { most, last, given: VecDeque::new() }
    }

    fn give(&mut self, visitor: Visitor, now: Instant) -> Result<Token, NoSession> {
        let token = Token(hex::encode(&random::<32>()?));
        self.given.retain(|(_, _, end)| now < *end);
        if self.given.len() == self.most {
            self.given.pop_front();
        }
        self.given.push_back((TokenHash::of(&token.0), visitor, now + self.last));
        Ok(token)
    }

    fn find(&self, token: &str, now: Instant) -> Option<&Visitor> {
        let wanted = TokenHash::of(token);
        let found = self.given.iter().find(|(hash, _, end)| *hash == wanted && now < *end);
        found.map(|(_, visitor, _)| visitor)
    }

    fn void(&mut self, token: &str) {
        let wanted = TokenHash::of(token);
        self.given.retain(|(hash, ..)| *hash != wanted);
    }
}

fn random<const N: usize>() -> Result<[u8; N], NoSession> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| NoSession::Random(error.to_string()))?;
    Ok(bytes)
}

/// Whether two codes are equal; how long it takes does not tell where they differ.
fn are_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |found, (a, b)| found | (a ^ b)) == 0
}

impl Sessions {
    /// Nobody is logged in. Sessions last `lasts`.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn new(lasts: Duration, now: Instant) -> Result<Self, NoSession> {
        let (sessions, links) = (Tokens::new(MAX_SESSIONS, lasts), Tokens::new(MAX_LINKS, LINK_FOR));
        let held = Mutex::new(Held { sessions, links, logins: VecDeque::new() });
        Ok(Self { began: now, secret: random()?, held })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What it holds is whole after each statement.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A text for an admin to sign.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn challenge(&self, now: Instant) -> Result<String, NoSession> {
        let age = now.saturating_duration_since(self.began).as_millis() as u64;
        let head = [age.to_be_bytes(), random()?].concat();
        Ok(hex::encode(&[&head[..], &self.code(&head)].concat()))
    }

    fn code(&self, head: &[u8]) -> [u8; 16] {
        // The secret and the head have fixed lengths, so nothing can be appended.
        let digest: [u8; 32] = Sha256::new().chain_update(self.secret).chain_update(head).finalize().into();
        digest[..16].try_into().expect("half of 32 bytes")
    }

    /// Whether this process gave out the challenge lately.
    #[must_use]
    pub fn gave(&self, challenge: &str, now: Instant) -> bool {
        let Some(bytes) = hex::decode::<32>(challenge.as_bytes()) else { return false };
        let (head, code) = bytes.split_at(16);
        let at = Duration::from_millis(u64::from_be_bytes(head[..8].try_into().expect("eight bytes")));
        let age = now.saturating_duration_since(self.began).saturating_sub(at);
        are_equal(&self.code(head), code) && age <= CHALLENGE_FOR
    }

    /// Opens a session for an admin whose login is checked but for whether it was used before.
    ///
    /// # Errors
    /// When it was, or too many were used lately.
    pub fn log_in(&self, key: Pubkey, login: EventId, now: Instant) -> Result<Token, NoSession> {
        let mut held = self.held();
        held.logins.retain(|(_, at)| now.saturating_duration_since(*at) < LOGIN_FOR);
        if held.logins.iter().any(|(id, _)| *id == login) {
            return Err(NoSession::Used);
        }
        if held.logins.len() == MAX_LOGINS {
            return Err(NoSession::TooMany);
        }
        held.logins.push_back((login, now));
        held.sessions.give(Visitor::Key(key), now)
    }

    /// Makes a link for a user of this machine.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn link(&self, visitor: Visitor, now: Instant) -> Result<Token, NoSession> {
        self.held().links.give(visitor, now)
    }

    /// Opens a session by a link, which is then used up.
    ///
    /// # Errors
    /// When there is no such link any more.
    pub fn follow(&self, link: &str, now: Instant) -> Result<Token, NoSession> {
        let mut held = self.held();
        let visitor = held.links.find(link, now).cloned().ok_or(NoSession::Link)?;
        held.links.void(link);
        held.sessions.give(visitor, now)
    }

    /// Whose session this is.
    #[must_use]
    pub fn find(&self, token: &str, now: Instant) -> Option<Visitor> {
        self.held().sessions.find(token, now).cloned()
    }

    /// Ends a session.
    pub fn end(&self, token: &str) {
        self.held().sessions.void(token);
    }

    /// Whether anybody is logged in.
    #[must_use]
    pub fn is_anybody_here(&self, now: Instant) -> bool {
        self.held().sessions.given.iter().any(|(_, _, end)| now < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nostr::testing::author;

    fn sessions(now: Instant) -> Sessions {
        Sessions::new(Duration::from_secs(60), now).expect("random numbers")
    }

    fn at(now: Instant, seconds: u64) -> Instant {
        now + Duration::from_secs(seconds)
    }

    #[test]
    fn a_session_ends_with_its_time_or_by_itself_and_no_token_but_its_own_finds_it() {
        let now = Instant::now();
        let sessions = sessions(now);
        let key = Visitor::Key(author(1));
        let [one, other] = [1, 2].map(|id| sessions.log_in(author(1), EventId([id; 32]), now).expect("a session"));
        assert_ne!(one, other);
        assert_eq!(sessions.find(one.text(), at(now, 59)), Some(key.clone()));
        assert_eq!(sessions.find(one.text(), at(now, 60)), None, "it has expired");
        sessions.end(one.text());
        assert_eq!([one.text(), other.text()].map(|token| sessions.find(token, now)), [None, Some(key)]);
        for token in ["", "0", &"0".repeat(64)] {
            assert_eq!(sessions.find(token, now), None);
        }
        assert!(sessions.is_anybody_here(now) && !sessions.is_anybody_here(at(now, 60)));
    }

    #[test]
    fn a_login_opens_one_session_and_beyond_the_bound_none() {
        let now = Instant::now();
        let sessions = sessions(now);
        let log_in = |number: u16, now| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&number.to_be_bytes());
            sessions.log_in(author(1), EventId(id), now).err()
        };
        assert_eq!(
            [log_in(0, now), log_in(0, now), log_in(0, at(now, 179))],
            [None, Some(NoSession::Used), Some(NoSession::Used)]
        );
        assert!((1..256).all(|number| log_in(number, now).is_none()));
        assert_eq!(log_in(256, now), Some(NoSession::TooMany));
        assert_eq!(log_in(256, at(now, 180)), None, "they were forgotten");
    }

    #[test]
    fn of_too_many_sessions_and_links_the_oldest_ends() {
        let now = Instant::now();
        let sessions = sessions(now);
        let user = || Visitor::User("uid:7".into());
        let links: Vec<Token> = (0..9).map(|_| sessions.link(user(), now).expect("a link")).collect();
        assert_eq!(sessions.follow(links[0].text(), now), Err(NoSession::Link), "nine are one too many");
        let first = sessions.follow(links[1].text(), now).expect("a session");
        assert_eq!(sessions.find(first.text(), now), Some(user()));
        for id in 0..31 {
            sessions.log_in(author(1), EventId([id; 32]), now).expect("a session");
        }
        assert_eq!(sessions.find(first.text(), now), Some(user()));
        sessions.log_in(author(1), EventId([99; 32]), now).expect("a session");
        assert_eq!(sessions.find(first.text(), now), None, "33 are one too many");
    }

    #[test]
    fn a_link_is_good_once_and_for_five_minutes() {
        let now = Instant::now();
        let sessions = sessions(now);
        let link = || sessions.link(Visitor::User("uid:0".into()), now).expect("a link");
        let (used, late) = (link(), link());
        assert!(sessions.follow(used.text(), at(now, 299)).is_ok());
        for (link, when) in [(used.text(), 299), (late.text(), 300), ("", 0)] {
            assert_eq!(sessions.follow(link, at(now, when)), Err(NoSession::Link));
        }
    }

    #[test]
    fn a_challenge_is_good_for_two_minutes_in_the_process_that_gave_it() {
        let now = Instant::now();
        let (own, other) = (sessions(now), sessions(now));
        let challenge = own.challenge(at(now, 100)).expect("a challenge");
        assert_ne!(own.challenge(at(now, 100)).expect("a challenge"), challenge);
        assert!(own.gave(&challenge, at(now, 100)) && own.gave(&challenge, at(now, 220)));
        assert!(!own.gave(&challenge, at(now, 221)), "it is too old");
        assert!(!other.gave(&challenge, at(now, 100)), "another process gave it");
        let mut forged = challenge.clone().into_bytes();
        forged[15] ^= 1;
        for wrong in ["", "00", &"0".repeat(64), &String::from_utf8(forged).expect("ASCII"), &challenge[1..]] {
            assert!(!own.gave(wrong, at(now, 100)), "{wrong}");
        }
    }
}
