//! Nodes that share what is published at any of them, with a real server of NATS between them.

mod support;

mod cluster {
    mod acts;
    mod away;
    mod compared;
    mod credentials;
    mod handover;
    mod hostile;
    mod killed;
    mod messages;
    mod nats;
    mod page;
    mod scene;
    mod servers;
    mod ways;
}
