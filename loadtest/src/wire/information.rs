//! Reads the relay's information document (NIP-11).
//!
//! It must never fail a run: a relay need not have such a document.

use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::header::ACCEPT;
use serde_json::Value;

use super::connect::Target;

/// A relay that has not sent its document by then is taken to have none.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest document that is read.
const MAX_BYTES: usize = 1 << 20;

/// The document, or `None` if the relay sends no JSON object.
pub async fn read(target: &Target) -> Option<Value> {
    tokio::time::timeout(TIMEOUT, request(target)).await.ok().flatten().filter(Value::is_object)
}

async fn request(target: &Target) -> Option<Value> {
    let response = target.get(&[(ACCEPT, "application/nostr+json")], 0, None).await.ok()?;
    (response.status() == StatusCode::OK).then_some(())?;
    let body = Limited::new(response.into_body(), MAX_BYTES).collect().await.ok()?;
    serde_json::from_slice(&body.to_bytes()).ok()
}
