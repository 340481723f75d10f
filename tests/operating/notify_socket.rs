//! systemd's end of the socket that `NOTIFY_SOCKET` names.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::support::relay::TIMEOUT;

/// The socket to which a service sends its states (sd_notify(3)).
pub struct NotifySocket(UnixDatagram);

impl NotifySocket {
    pub fn bind(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
        Self(socket)
    }

    /// What is said next, but for signs of life.
    pub fn next(&self) -> String {
        loop {
            let said = self.any();
            if said != "WATCHDOG=1" {
                return said;
            }
        }
    }

    fn any(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("something is said in time");
        String::from_utf8_lossy(&buffer[..length]).trim_end().into()
    }

    pub fn wait_for_sign_of_life(&self) {
        while self.any() != "WATCHDOG=1" {}
    }
}
