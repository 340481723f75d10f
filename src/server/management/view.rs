//! What `weir top` and the dashboard ask: numbers that are gathered only then, and the end of a connection.
//!
//! The answer is bounded: the metrics, some connections and the last slow queries. Nothing here changes a decision.

use serde_json::{Value, json};

use crate::management::Request;
use crate::pipeline::{ClientHandle, Serving};
use crate::server::gauges;
use crate::ws::CloseCode;

/// The methods about the running relay, which NIP-86 does not have.
pub const METHODS: [&str; 12] = [
    "closeconnection",
    "configuration",
    "countevents",
    "explain",
    "figures",
    "lookup",
    "purges",
    "reload",
    "startpurge",
    "stoppurge",
    "storage",
    "view",
];

/// The most connections of one answer.
const MAX_CONNECTIONS: u64 = 1_000;

/// Carries a request out, if it is one of those here.
pub fn call(serving: &Serving, request: &Request) -> Option<Result<Value, String>> {
    match request.method.as_str() {
        "view" => Some(request.number(0).map(|most| view(serving, most)).map_err(|error| error.to_string())),
        "closeconnection" => Some(close(serving, request)),
        _ => None,
    }
}

fn view(serving: &Serving, most: Option<u64>) -> Value {
    gauges::collect(serving);
    let mut clients = serving.registry.clients();
    clients.sort_by_cached_key(|(number, client)| (std::cmp::Reverse(client.cpu_us()), *number));
    clients.truncate(most.unwrap_or(MAX_CONNECTIONS).min(MAX_CONNECTIONS) as usize);
    let slow = serving.reading.slow.last();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "metrics": serving.metrics.render(),
        "connections": clients.iter().map(|(number, client)| connection(*number, client)).collect::<Vec<_>>(),
        "slow_queries": slow.iter().map(|query| json!({
            "address": query.address.to_string(),
            "verb": query.verb,
            "filters": query.filters,
            "plan": query.plan,
            "rows": query.rows,
            "worked_ms": query.worked.as_millis() as u64,
            "waited_ms": query.waited.as_millis() as u64,
        })).collect::<Vec<_>>(),
    })
}

pub(super) fn connection(number: u64, client: &ClientHandle) -> Value {
    let (unsent_bytes, _) = client.outbox.unsent();
    json!({
        "id": number,
        "address": client.peer.to_string(),
        "key": client.identity().keys.first().map(ToString::to_string).unwrap_or_default(),
        "cpu_us": client.cpu_us(),
        "unanswered": client.unanswered(),
        "queries": client.scans().load(std::sync::atomic::Ordering::Relaxed),
        "unsent_bytes": unsent_bytes,
        "filter_bytes": client.filters.used_bytes(),
    })
}

/// Closes a connection by its number. Its EVENTs may stay without an answer.
fn close(serving: &Serving, request: &Request) -> Result<Value, String> {
    let number = request.number(0).map_err(|error| error.to_string())?.ok_or("params[0]: is missing")?;
    let reason = request.reason(1).map_err(|error| error.to_string())?;
    let client = serving.registry.find(number).ok_or("there is no connection with this number")?;
    tracing::info!(number, address = %client.peer, reason, "the operator closed a connection");
    client.outbox.close(CloseCode::Policy, "blocked: closed by the operator");
    Ok(true.into())
}
