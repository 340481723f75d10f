//! Write-policy plugins in strfry's protocol, on the built binary: what they are asked, what their verdicts do, and
//! what a plugin that misbehaves costs. `tests/plugins/plugin.py` is the plugin.

mod support;

#[path = "plugins/changes.rs"]
mod changes;
#[path = "plugins/faults.rs"]
mod faults;
#[path = "plugins/import.rs"]
mod import;
#[path = "plugins/protocol.rs"]
mod protocol;
#[path = "plugins/queues.rs"]
mod queues;
#[path = "plugins/scene.rs"]
mod scene;
