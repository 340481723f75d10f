//! What an operator relies on, on the built binary: the pages that are watched, and the agreement with systemd.

mod support;

mod operating {
    mod clock;
    mod landing_page;
    mod monitoring;
    mod notify_socket;
    mod page;
    mod replaced;
    mod slow;
    mod systemd;
    mod top;
}
