//! See `weir::fuzz`.
#![no_main]

weir_fuzz::target!("router_file");
