//! One client at a time: HTTP in front, then a WebSocket and a session (the home of hyper).
//!
//! Each io thread runs its own single-threaded runtime with its own acceptor; a connection never leaves the
//! thread that accepted it. Nothing here blocks a thread except bounded reads of the store.

mod admission;
mod auth;
mod bill;
mod change_feed;
mod connection;
mod context;
pub mod dashboard;
mod engine;
mod feed_access;
pub mod gauges;
mod http;
mod info;
#[cfg(all(test, feature = "interleavings"))]
pub(crate) mod interleavings;
mod io;
mod landing_page;
mod linger;
mod log_limit;
pub mod management;
mod monitor;
mod options;
mod page_faults;
mod partial_messages;
mod poll_time;
mod proxy;
pub(crate) mod proxy_header;
mod proxy_protocol;
mod refusals;
mod response;
pub mod session;
mod share;
mod stage;
mod turns;

pub use change_feed::PATH as CHANGES_PATH;
pub use dashboard::context::{DashboardContext, Options as DashboardOptions, Setting};
pub use feed_access::{Options as ChangesOptions, TokenFile, TokenHash};
pub use io::{Server, ServerError, listen};
pub use log_limit::LogLimit;
pub use options::Options;
