//! What the NIPs require of a relay: each sentence is a test of the built binary over a real socket.
//!
//! `docs/protocol.md` lists every requirement with the tests here, and elsewhere, that prove it.

mod support;

mod conformance {
    mod connection;
    mod differential;
    mod nip09;
    mod nip11;
    mod nip13;
    mod nip17_59;
    mod nip40;
    mod nip42;
    mod nip45;
    mod nip62;
    mod nip67;
    mod nip70;
    mod nip91;
    mod peers;
    mod policy;
    mod regression;
    mod shares;
    mod nip01 {
        mod events;
        mod filters;
        mod kinds;
        mod messages;
        mod subscriptions;
    }
}
