//! What the service manager is told, and the socket that it may have opened for us.
//!
//! Every call does nothing where there is no systemd.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::Context as _;
use sd_notify::NotifyState;

/// A listening socket that systemd opened for us (`weir.socket`).
pub fn socket() -> anyhow::Result<Option<TcpListener>> {
    let mut sockets = sd_notify::listen_fds().context("the sockets from systemd cannot be used")?;
    let Some(descriptor) = sockets.next() else { return Ok(None) };
    // SAFETY: systemd passed this descriptor to this process (LISTEN_PID was compared), and nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(Some(TcpListener::from(descriptor)))
}

/// Tells systemd, where there is one.
pub fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
