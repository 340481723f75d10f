//! File descriptors: each connection takes one, and the system may grant fewer than the configuration asks for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::server;

/// Descriptors reserved for the relay itself: the store's files, the log, the metrics listener.
const OWN_DESCRIPTORS: usize = 256;

/// How many descriptors the relay takes when every limit on connections is reached.
const fn wanted(server: &server::Options) -> usize {
    server.max_connections.saturating_add(server.max_half_open).saturating_add(OWN_DESCRIPTORS)
}

/// What `weir config check` warns of: the hard limit of this process is below what the connections may take.
#[must_use]
pub fn warning(server: &server::Options) -> Option<String> {
    let (wanted, limit) = (wanted(server), getrlimit(Resource::Nofile).maximum?);
    (limit < wanted as u64).then(|| {
        format!(
            "server.max_connections and server.max_half_open take {wanted} file descriptors, and a process that is \
             started here gets {limit}: weir would lower both; raise LimitNOFILE in the unit, or lower them yourself"
        )
    })
}

/// Raises the soft limit on descriptors, which is often 1,024, since each connection needs one. If the system grants
/// fewer than needed, the limits on connections are lowered, so that clients never take the last descriptor.
pub fn raise_limit(server: &mut server::Options) {
    let wanted = wanted(server);
    let limit = getrlimit(Resource::Nofile);
    let available = if limit.current.is_some_and(|current| current < wanted as u64) {
        let raised = limit.maximum.map_or(wanted as u64, |maximum| maximum.min(wanted as u64));
        let result = setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit });
        if result.is_ok() { Some(raised) } else { limit.current }
    } else {
        limit.current
    };
    // `None` is no limit.
    let available = available.and_then(|available| usize::try_from(available).ok()).unwrap_or(usize::MAX);
    if available < wanted {
        fit(server, available);
        tracing::warn!(
            limit = available,
            wanted,
            max_connections = server.max_connections,
            max_half_open = server.max_half_open,
            "too few file descriptors for server.max_connections and max_half_open: both were lowered; raise LimitNOFILE"
        );
    }
}

/// Lowers the limits on connections to the available descriptors, keeping about the configured proportions.
fn fit(server: &mut server::Options, available: usize) {
    let for_clients = available.saturating_sub(OWN_DESCRIPTORS).max(available / 4).max(2);
    let half_open = server.max_half_open.min(for_clients / 4).max(1);
    server.max_half_open = half_open;
    server.max_connections = server.max_connections.min(for_clients - half_open);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_the_last_descriptor() {
        for available in [16, 256, 300, 1024, 4096, 20_000, 34_000] {
            let mut server = server::Options::default();
            fit(&mut server, available);
            let taken = server.max_connections + server.max_half_open;
            assert!(taken < available && taken * 5 > available, "{taken} of {available}");
        }
        let mut server = server::Options::default();
        fit(&mut server, 1_024);
        assert_eq!((server.max_connections, server.max_half_open), (576, 192));
    }
}
