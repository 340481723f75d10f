//! See `weir::fuzz`.
#![no_main]

weir_fuzz::target!("stream_state");
