//! How a node proves to NATS who it is: by what the addresses of the servers hold, or by a file.
//!
//! It never says in an error what is secret.

use std::path::Path;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use url::Url;

use super::error::{ClusterError, nats};
use crate::replication::file::read_at_most;

/// The longest file of credentials.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// How the seed of a user's nkey begins.
const SEED: &str = "SU";

/// What an address holds before its `@`. Not for logs.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// `user:password@`.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// `token@`.
    Token(String),
}

/// What the addresses hold, which is the same in all that hold something: a connection to any server proves it.
///
/// # Errors
/// What is wrong with them.
pub fn login(servers: &[String]) -> Result<Option<Login>, &'static str> {
    let mut found = None;
    for server in servers {
        let Ok(url) = Url::parse(server) else { continue };
        let decoded = |text| percent_decode_str(text).decode_utf8().map(String::from);
        let (Ok(user), Ok(password)) = (decoded(url.username()), url.password().map(decoded).transpose()) else {
            return Err("the user or password of a server is not UTF-8 when its % are decoded");
        };
        let login = match password {
            Some(password) => Login::Password { user, password },
            None if user.is_empty() => continue,
            None => Login::Token(user),
        };
        if *found.get_or_insert_with(|| login.clone()) != login {
            return Err("servers of one cluster have one user, and these have several");
        }
    }
    Ok(found)
}

/// Connects with what the addresses hold. The client of NATS does not take it from there.
pub fn with_login(connect: ConnectOptions, servers: &[String]) -> Result<ConnectOptions, ClusterError> {
    Ok(match login(servers).map_err(nats("the servers"))? {
        Some(Login::Password { user, password }) => connect.user_and_password(user, password),
        Some(Login::Token(token)) => connect.token(token),
        None => connect,
    })
}

/// The addresses without what they hold.
pub fn addresses(servers: &[String]) -> Result<Vec<ServerAddr>, ClusterError> {
    let bare = |server: &String| {
        let mut url = Url::parse(server).map_err(nats("the address of a server"))?;
        // A URL without a host has none to remove, and is refused below.
        let _ = (url.set_username(""), url.set_password(None));
        ServerAddr::from_url(url).map_err(nats("the address of a server"))
    };
    servers.iter().map(bare).collect()
}

/// Connects with a file of credentials, as `nsc` writes them, or with the seed of an nkey.
pub fn with_file(connect: ConnectOptions, file: &Path) -> Result<ConnectOptions, ClusterError> {
    let unusable = |why: String| ClusterError::File { file: file.display().to_string(), why };
    let read = read_at_most(file, MAX_FILE_BYTES).map_err(|error| unusable(error.to_string()))?;
    let bytes = read.ok_or_else(|| unusable("there is no such file".into()))?;
    let text = String::from_utf8(bytes).map_err(|_| unusable("it is not text".into()))?;
    if text.trim().starts_with(SEED) {
        return Ok(connect.nkey(text.trim().into()));
    }
    let wrong = |_| unusable("it holds neither the credentials of a user nor the seed of a user's nkey".into());
    connect.credentials(&text).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(servers: &[&str]) -> Result<Option<Login>, &'static str> {
        login(&servers.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_password_or_a_token_is_found_decoded_and_is_the_same_for_all_servers() {
        let user =
            |user: &str, password: &str| Ok(Some(Login::Password { user: user.into(), password: password.into() }));
        assert!(of(&["nats://10.0.0.1", "tls://10.0.0.2:4222"]) == Ok(None));
        assert!(of(&["nats://weir:a%20long%2Fone@h"]) == user("weir", "a long/one"));
        assert!(of(&["nats://h", "nats://t%3Aoken@h"]) == Ok(Some(Login::Token("t:oken".into()))));
        assert!(of(&["nats://a:b@h", "tls://a:b@other"]) == user("a", "b"));
        assert!(of(&["nats://a:b@h", "nats://a:c@other"]).is_err_and(|why| why.contains("several")));
        assert!(of(&["nats://a:%ff@h"]).is_err_and(|why| why.contains("UTF-8")));
    }

    #[test]
    fn an_address_loses_what_is_secret_and_nothing_else() {
        let addresses = addresses(&["tls://weir:secret@nats.example:4333".into()]).expect("an address");
        assert_eq!(addresses.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>(), ["tls://nats.example:4333"]);
    }
}
