//! See `weir::fuzz`.
#![no_main]

weir_fuzz::target!("relay_message");
