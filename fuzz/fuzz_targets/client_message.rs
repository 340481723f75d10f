//! See `weir::fuzz`.
#![no_main]

weir_fuzz::target!("client_message");
