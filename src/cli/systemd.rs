//! Notifications to systemd, and the socket that it may have opened for us.
//!
//! Without systemd, every call does nothing.

use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};

use anyhow::Context as _;
use sd_notify::NotifyState;

/// The listening socket that systemd opened for us (`weir.socket`), if any.
pub fn socket() -> anyhow::Result<Option<TcpListener>> {
    let mut sockets = sd_notify::listen_fds().context("cannot use the sockets from systemd")?;
    let Some(descriptor) = sockets.next() else { return Ok(None) };
    // SAFETY: systemd passed this descriptor to this process (LISTEN_PID was compared), and nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(Some(TcpListener::from(descriptor)))
}

/// Notifies systemd, if it is there.
pub fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not notified");
    }
}
