//! The operator's lists and rules about events, on the built binary: what they refuse, mute and let pass, and list
//! files that change while clients publish.

mod support;

#[path = "policy/hostile.rs"]
mod hostile;
#[path = "policy/lists.rs"]
mod lists;
#[path = "policy/rules.rs"]
mod rules;
#[path = "policy/scene.rs"]
mod scene;
#[path = "policy/suspects.rs"]
mod suspects;
#[path = "policy/trust.rs"]
mod trust;
