//! What do the operator's rules no longer keep? The decision, and its execution without a relay.
//!
//! There is one [`Plan`]. The dry run counts what it would remove, and `weir retention --run` and the relay remove it.
//! The relay's `retention` thread reads the store in slices and asks the writer to remove what it finds
//! (`pipeline::evict`). Events that were removed to make room are not accepted again ([`Horizons`]). Rules that would
//! remove a large part of the store wait for the operator ([`brake`]). Never reads the wall clock: `now` is passed in.

mod age_scan;
pub mod authors;
pub mod brake;
pub mod busy_authors;
pub mod cause;
pub mod disk;
mod estimate;
pub mod follows;
mod forecast;
mod heavy_hitters;
pub mod horizons;
pub mod intervals;
pub mod marks;
pub mod oldest;
pub mod parts;
pub(crate) mod pass;
pub mod plan;
pub mod report;
mod samples;
pub(crate) mod slice;
mod usage;

pub use cause::{Candidate, Cause};
pub use disk::Disk;
pub use estimate::Estimate;
pub use follows::resolve;
pub use forecast::{Daily, Forecast, Limit};
pub use heavy_hitters::Hitter;
pub use horizons::{Horizon, Horizons};
pub use marks::Marks;
pub use parts::{Part, Parts};
pub use pass::{Mode, PassReport, pass};
pub use plan::Plan;
pub use report::word;
pub use samples::{Sample, Samples};
pub use usage::{RuleUsage, Survey, survey};
