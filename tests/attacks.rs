//! Attacks on the built relay over real sockets: what the attacker gets, and that others are served meanwhile.
//!
//! `docs/reliability.md` lists every attack with its bound and the test here. None asserts a time: they count who is
//! served, who is refused, and bytes.

mod support;

mod attacks {
    mod crowds;
    mod doors;
    mod floods;
    mod memory;
    mod proxies;
    mod queries;
}
