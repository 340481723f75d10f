//! `weir router`, and streams inside `weir serve`.

mod file;
mod hostile;
mod killed;
mod scene;
mod served;
mod ways;
