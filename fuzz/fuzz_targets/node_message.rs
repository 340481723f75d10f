//! See `weir::fuzz`.
#![no_main]

weir_fuzz::target!("node_message");
