//! What an operator relies on, on the built binary: the pages that are watched, and the agreement with systemd.

mod support;

mod operating {
    mod clock;
    mod front_door;
    mod monitoring;
    mod notify_socket;
    mod page;
    mod replaced;
    mod slow;
    mod systemd;
    mod top;
}
