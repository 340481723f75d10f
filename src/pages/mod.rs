//! What a browser is shown: the relay's landing page, and the shell of its dashboard.
//!
//! Pure: settings and figures in, HTML and its headers out. Every value is escaped where it is written; no page runs a
//! script or style whose hash its policy does not name. Nothing here reads a file, the store or a clock.

mod accepted;
pub mod csp;
pub mod dashboard;
pub mod landing_page;
pub mod nips;
mod parts;
mod qr;
pub mod template;
#[cfg(test)]
mod tests;
mod words;

pub use csp::Page;
pub use parts::{LandingPage, Stats};
pub use template::{Template, TemplateError};
