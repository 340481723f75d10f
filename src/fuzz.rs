//! What must hold for any bytes that cross a trust boundary: a [`Target`] for each boundary. Compiled into tests and
//! fuzzers, never into the relay.
//!
//! A check is written once, beside the code that it checks (`nostr/fuzz.rs`, `store/fuzz.rs` and their like). The tests
//! below run it on its seeds and on some thousand mutations of them, the same in every run. `fuzz/` runs it under
//! libFuzzer for as long as one likes.
//!
//! To add a target: write its seeds and its check, list it in [`TARGETS`] and in the tests below, and add its program
//! to `fuzz/` and its row to `docs/reliability.md`. `tests/tidy.rs` compares the four.

use crate::{backup, config, import, negentropy, nostr, peer, plugin, policy, replication, server, store, ws};

/// A trust boundary.
pub struct Target {
    /// Its name, that of its program in `fuzz/` and of its test.
    pub name: &'static str,
    /// Inputs with the shapes that occur.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Panics unless everything holds for these bytes.
    pub check: fn(&[u8]),
}

/// Every target.
pub static TARGETS: [Target; 22] = [
    Target { name: "json", seeds: nostr::fuzz::json_seeds, check: nostr::fuzz::json },
    Target { name: "client_message", seeds: nostr::fuzz::message_seeds, check: nostr::fuzz::client_message },
    Target { name: "event", seeds: nostr::fuzz::event_seeds, check: nostr::fuzz::event },
    Target { name: "filter", seeds: nostr::fuzz::filter_seeds, check: nostr::fuzz::filter },
    Target { name: "record", seeds: store::fuzz::record_seeds, check: store::fuzz::record },
    Target { name: "pages", seeds: store::fuzz::pages_seeds, check: store::fuzz::pages },
    Target { name: "log", seeds: store::fuzz::log_seeds, check: store::fuzz::log },
    Target { name: "frames", seeds: ws::fuzz::frames_seeds, check: ws::fuzz::frames },
    Target { name: "inflate", seeds: ws::fuzz::inflate_seeds, check: ws::fuzz::inflate },
    Target { name: "negentropy", seeds: negentropy::fuzz::seeds, check: negentropy::fuzz::check },
    Target { name: "backup", seeds: backup::fuzz::seeds, check: backup::fuzz::check },
    Target { name: "config", seeds: config::fuzz::seeds, check: config::fuzz::check },
    Target { name: "import", seeds: import::fuzz::seeds, check: import::fuzz::check },
    Target { name: "forwarded", seeds: policy::fuzz::forwarded_seeds, check: policy::fuzz::forwarded },
    Target { name: "proxy_header", seeds: server::proxy_header::fuzz::seeds, check: server::proxy_header::fuzz::check },
    Target { name: "management", seeds: server::management::fuzz::seeds, check: server::management::fuzz::check },
    Target { name: "plugin", seeds: plugin::fuzz::seeds, check: plugin::fuzz::check },
    Target { name: "relay_message", seeds: peer::fuzz::seeds, check: peer::fuzz::check },
    Target { name: "remembered", seeds: replication::fuzz::seeds, check: replication::fuzz::check },
    Target { name: "stream_state", seeds: replication::fuzz::state_seeds, check: replication::fuzz::state },
    Target { name: "node_message", seeds: replication::fuzz::message_seeds, check: replication::fuzz::message },
    Target { name: "router_file", seeds: config::fuzz::router_seeds, check: config::fuzz::router },
];

/// Runs the check of the target with this name.
///
/// # Panics
/// When the check does, or there is no such target.
pub fn check(name: &str, bytes: &[u8]) {
    (target(name).check)(bytes);
}

fn target(name: &str) -> &'static Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    found.expect("programs of `fuzz/` and tests are named like their targets")
}

/// Writes the seeds of a target to the folder of its name in `corpus`, where libFuzzer begins.
///
/// # Panics
/// When the files cannot be written, or there is no such target.
pub fn write_seeds(name: &str, corpus: &str) {
    let seeds = (target(name).seeds)();
    let folder = std::path::Path::new(corpus).join(name);
    std::fs::create_dir_all(&folder).expect("the folder of the corpus can be created");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:02}")), seed).expect("a seed can be written");
    }
}

/// Takes choices off the front of an input. At its end every choice is zero.
pub(crate) struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn two_bytes(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        let number = if bound <= 256 { usize::from(self.byte()) } else { usize::from(self.two_bytes()) };
        number % bound
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A directory for a check's files, removed with it: in memory where that is possible, since backups and logs wait for
/// the disk.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = tempfile::tempdir_in("/dev/shm");
    memory.or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schnorr::reference::Random;

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            (self.next() % bound.max(1) as u64) as usize
        }

        fn range(&mut self, len: usize) -> std::ops::Range<usize> {
            let start = self.below(len + 1);
            start..start + self.below((len - start).min(64) + 1)
        }

        fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
            &from[self.below(from.len())]
        }
    }

    /// Bytes that mean something to one parser or another.
    const TOKENS: [&[u8]; 24] = [
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\n",
        b"\r\n",
        b" ",
        b"0",
        b"-1",
        b"1e400",
        b"null",
        b"\\ud800",
        b"18446744073709551616",
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\x80",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"=",
    ];

    /// Changes an input in one place.
    fn mutate(random: &mut Random, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            3 => drop(bytes.splice(at..at, random.pick(&TOKENS).iter().copied())),
            4 => drop(bytes.drain(random.range(bytes.len()))),
            5 => {
                let copy = bytes[random.range(bytes.len())].to_vec();
                bytes.splice(at..at, copy);
            }
            6 => {
                let other = random.pick(seeds);
                let part = other[random.range(other.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(at),
        }
    }

    /// Prints the input if its check panics.
    struct Tried<'a>(&'a str, &'a [u8]);

    impl Drop for Tried<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("the check {} fails for b\"{}\"", self.0, self.1.escape_ascii());
            }
        }
    }

    /// Cases for each target, beside its seeds.
    fn cases() -> usize {
        std::env::var("WEIR_FUZZ_CASES").map_or(2_000, |cases| cases.parse().expect("WEIR_FUZZ_CASES is a number"))
    }

    fn run(name: &str) {
        let target = target(name);
        let seeds = (target.seeds)();
        let tried = |bytes: &[u8]| {
            let _printed = Tried(name, bytes);
            (target.check)(bytes);
        };
        seeds.iter().for_each(|seed| tried(seed));
        tried(b"");
        let mut random = Random(1);
        for _ in 0..cases() {
            let mut bytes = random.pick(&seeds).clone();
            for _ in 0..=random.below(4) {
                mutate(&mut random, &seeds, &mut bytes);
            }
            tried(&bytes);
        }
    }

    macro_rules! tests {
        ($($name:ident)*) => {
            /// For seeds and mutations of them, the check holds of …
            mod any_bytes_are_safe_as {
                $(#[test]
                fn $name() {
                    super::run(stringify!($name));
                })*
            }

            #[test]
            fn every_target_has_a_test() {
                assert!([$(stringify!($name)),*].iter().eq(TARGETS.iter().map(|target| &target.name)));
            }

            #[test]
            fn every_target_has_seeds_of_more_than_one_shape() {
                let shapes = |target: &Target| (target.seeds)().into_iter().collect::<std::collections::BTreeSet<_>>();
                let few = TARGETS.iter().filter(|target| shapes(target).len() < 2);
                assert_eq!(few.map(|target| target.name).collect::<Vec<_>>(), [""; 0]);
            }
        };
    }

    tests! {
        json client_message event filter record pages log frames inflate negentropy backup config import forwarded
        proxy_header management plugin relay_message remembered stream_state node_message router_file
    }
}
