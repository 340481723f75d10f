//! The writer thread, and what it has accepted but not yet committed.

pub mod background;
pub mod event_replies;
pub mod room;
pub mod uncommitted;
pub mod work;
pub mod writer;
pub mod writing;
