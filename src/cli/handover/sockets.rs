//! The listening sockets of a relay: inherited, from systemd, or new.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};

use super::words::{GREETING, MAX_LINE};
use crate::cli::systemd;
use crate::config::Config;
use crate::server;

/// What the sockets are called between two processes. A socket for clients that systemd opened keeps its address,
/// whatever the configuration says.
const CLIENTS: &str = "clients";
const ACTIVATED: &str = "activated";
const METRICS: &str = "metrics";

/// The most sockets that a process takes.
const MAX_SOCKETS: usize = 8;

/// The listening sockets.
pub struct Sockets {
    /// Where clients connect.
    pub clients: TcpListener,
    is_activated: bool,
    /// Where operators do, if they may.
    pub metrics: Option<TcpListener>,
}

impl Sockets {
    /// The sockets that the configuration asks for: inherited ones where they suit, otherwise systemd's or new ones.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub fn open(config: &Config, inherited: Inherited) -> anyhow::Result<Self> {
        let wanted = config.server.listen;
        let (clients, is_activated) = match inherited.clients {
            Some((listener, true)) => (listener, true),
            Some((listener, false)) if suits(&listener, wanted) => (listener, false),
            other => match systemd::socket()?.filter(|_| other.is_none()) {
                Some(listener) => (listener, true),
                None => (server::listen(wanted)?, false),
            },
        };
        let metrics = match config.metrics.listen {
            None => None,
            Some(wanted) => Some(match inherited.metrics.filter(|listener| suits(listener, wanted)) {
                Some(listener) => listener,
                None => server::listen(wanted)?,
            }),
        };
        Ok(Self { clients, is_activated, metrics })
    }

    /// Sends the sockets to another process, as the first message.
    pub(super) fn send(&self, to: &UnixStream) -> anyhow::Result<()> {
        let mut named = vec![(if self.is_activated { ACTIVATED } else { CLIENTS }, &self.clients)];
        named.extend(self.metrics.iter().map(|listener| (METRICS, listener)));
        let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
        let line = format!("{GREETING} {}\n", names.join(" "));
        let descriptors: Vec<_> = named.iter().map(|(_, listener)| listener.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut attached = SendAncillaryBuffer::new(&mut space);
        anyhow::ensure!(attached.push(SendAncillaryMessage::ScmRights(&descriptors)), "too many listening sockets");
        let sent = sendmsg(to, &[IoSlice::new(line.as_bytes())], &mut attached, SendFlags::NOSIGNAL)?;
        anyhow::ensure!(sent == line.len(), "the listening sockets were only sent in part");
        Ok(())
    }
}

/// Whether a socket listens where the configuration says. Port 0 suits any.
fn suits(listener: &TcpListener, wanted: SocketAddr) -> bool {
    let suits = |is: SocketAddr| is == wanted || (wanted.port() == 0 && is.ip() == wanted.ip());
    let is = listener.local_addr();
    let is_suitable = is.as_ref().is_ok_and(|is| suits(*is));
    if !is_suitable && let Ok(is) = is {
        tracing::warn!(
            "the former process listened on {is}, not on {wanted}: clients of the former address are refused"
        );
    }
    is_suitable
}

/// Sockets of the process that this one replaces; those with unknown names are closed.
#[derive(Default)]
pub struct Inherited {
    /// The socket for clients, and whether systemd opened it.
    clients: Option<(TcpListener, bool)>,
    metrics: Option<TcpListener>,
}

impl Inherited {
    /// Waits for the first message of the old process.
    pub(super) fn receive(from: &UnixStream) -> anyhow::Result<Self> {
        let mut line = [0; MAX_LINE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut attached = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(from, &mut [IoSliceMut::new(&mut line)], &mut attached, RecvFlags::CMSG_CLOEXEC)?;
        let sockets: Vec<OwnedFd> = attached
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
                _ => None,
            })
            .flatten()
            .collect();
        let line = std::str::from_utf8(&line[..received.bytes])?;
        let names = line.strip_suffix('\n').and_then(|line| line.strip_prefix(GREETING));
        let names = names.with_context(|| format!("expected {GREETING:?}, not {line:?}"))?.split_whitespace();
        let mut inherited = Self::default();
        for (name, socket) in names.zip(sockets) {
            let listener = TcpListener::from(socket);
            match name {
                CLIENTS | ACTIVATED => inherited.clients = Some((listener, name == ACTIVATED)),
                METRICS => inherited.metrics = Some(listener),
                _ => {}
            }
        }
        anyhow::ensure!(inherited.clients.is_some(), "the socket for clients is missing");
        Ok(inherited)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn config(clients: SocketAddr, metrics: Option<SocketAddr>) -> Config {
        let mut config = Config::default();
        config.server.listen = clients;
        config.metrics.listen = metrics;
        config
    }

    fn any() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    fn pass_on(sockets: &Sockets) -> Inherited {
        let (old, new) = UnixStream::pair().expect("a pair");
        sockets.send(&old).expect("they are sent");
        Inherited::receive(&new).expect("they arrive")
    }

    #[test]
    fn sockets_are_inherited_where_the_configuration_still_asks_for_them() {
        let sockets = Sockets::open(&config(any(), Some(any())), Inherited::default()).expect("free ports");
        let [clients, metrics] =
            [Some(&sockets.clients), sockets.metrics.as_ref()].map(|it| it.expect("both").local_addr().expect("one"));
        let taken = Sockets::open(&config(any(), Some(metrics)), pass_on(&sockets)).expect("inherited ones");
        assert_eq!(taken.clients.local_addr().expect("an address"), clients);
        assert_eq!(taken.metrics.as_ref().map(|it| it.local_addr().expect("an address")), Some(metrics));
        let other = SocketAddr::from(([127, 0, 0, 2], 0));
        let moved = Sockets::open(&config(other, None), pass_on(&sockets)).expect("a new one");
        assert_eq!(moved.clients.local_addr().expect("an address").ip(), other.ip());
        assert!(moved.metrics.is_none());
    }

    #[test]
    fn a_socket_from_systemd_stays_whatever_the_configuration_says() {
        let mut sockets = Sockets::open(&config(any(), None), Inherited::default()).expect("a free port");
        sockets.is_activated = true;
        let other = SocketAddr::from(([127, 0, 0, 2], 7777));
        let taken = Sockets::open(&config(other, None), pass_on(&sockets)).expect("the inherited one");
        assert_eq!(
            (taken.clients.local_addr().expect("one"), taken.is_activated),
            (sockets.clients.local_addr().expect("one"), true)
        );
    }

    #[test]
    fn a_greeting_that_is_not_understood_is_an_error() {
        for line in
            ["", "weir hand-over 2 clients\n", "weir hand-over 1 clients", "weir hand-over 1 clients\n", "\u{e9}\n"]
        {
            let (mut old, new) = UnixStream::pair().expect("a pair");
            old.write_all(line.as_bytes()).expect("it is sent");
            drop(old);
            assert!(Inherited::receive(&new).is_err(), "{line:?}");
        }
    }
}
