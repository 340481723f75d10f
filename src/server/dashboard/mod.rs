//! The dashboard: a page on which admins see what the relay does and manage it. Off by default.
//!
//! The io threads serve files and sessions; everything else is a method of the management API, which the `management`
//! thread carries out and audits. Nobody without a session reaches that thread.

pub mod context;
pub mod sessions;
pub mod site;
