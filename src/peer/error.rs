//! Why there is no connection to the other relay, or none any more.

use std::io;
use std::path::PathBuf;

/// Why a connection cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The address is no relay's.
    #[error("{0:?} is not the URL of a relay, such as wss://relay.example.com")]
    NotARelay(String),
    /// Nobody can be reached there.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// It did not connect in time.
    #[error("no connection within {0} s")]
    TooSlow(u64),
    /// The other side ended the connection.
    #[error("the connection was closed{0}")]
    Closed(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// A message is longer than any that we want.
    #[error("the relay sent a message of more than {0} bytes")]
    TooLong(usize),
    /// The other side takes nothing off the line.
    #[error("the relay does not read what it is sent")]
    NotReading,
    /// A file of certificates cannot be used.
    #[error("cannot read certificates from {}: {text}", file.display())]
    Certificates {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        text: String,
    },
    /// There is nothing to check the relay's certificate against.
    #[error("this system has no root certificates: install its package ca-certificates, or name a file of them")]
    NoRoots,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The system refuses what a connection takes.
    #[error(transparent)]
    System(#[from] io::Error),
}
