//! A management request over HTTP (NIP-86): from its headers and body to the answer.
//!
//! The body is read once the signature of an admin is checked, so nobody else makes the relay hold one. The check is
//! charged, and made only of an event that names an admin as its author.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::link::{Answer, Authority, Job};
use crate::metrics::ManagementOutcome;
use crate::nostr::json::Parser;
use crate::nostr::{Event, VerifiedEvent};
use crate::policy::{Act, NotAuthorized, check_http_auth, check_payload};
use crate::server::context::IoContext;
use crate::server::response::with_cors;

/// The media type of requests (NIP-86).
const RPC: &str = "application/nostr+json+rpc";

/// The largest body. The longest parameter is a description of 4 KiB.
const MAX_BODY: usize = 64 << 10;

/// How long a client may take to send its body, and how long it waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Padding is optional.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether a request is for management. Some clients name the media type in Accept alone, which must not be taken for
/// NIP-11's.
#[must_use]
pub fn is_meant(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST && (names_rpc(headers, &CONTENT_TYPE) || names_rpc(headers, &ACCEPT))
}

fn names_rpc(headers: &HeaderMap, name: &HeaderName) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(','));
    types.any(|one| one.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(RPC)))
}

/// Answers a request, which is charged to `payer`.
pub async fn answer(context: &Rc<IoContext>, request: Request<Incoming>, payer: IpAddr) -> Response<Full<Bytes>> {
    let (outcome, status, body) = match handle(context, request, payer).await {
        Ok(Answer::Done(result)) => (ManagementOutcome::Done, StatusCode::OK, json!({ "result": result })),
        Ok(Answer::Failed(error)) => (ManagementOutcome::Failed, StatusCode::OK, json!({ "error": error })),
        Ok(Answer::Unauthorized(why)) => unauthorized(why),
        Err(Refusal::Unauthorized(why)) => {
            context.charge(&context.front.pipeline.settings.load(), payer, Act::Rejected);
            unauthorized(&why)
        }
        Err(Refusal::Body(status, why)) => (ManagementOutcome::Failed, status, json!({ "error": why })),
    };
    context.front.pipeline.metrics.management(outcome);
    let response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    let mut response = with_cors(response, Value::to_string(&body).into());
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Nostr"));
    }
    if status != StatusCode::OK {
        // The rest of a body may be on its way.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn unauthorized(why: &str) -> (ManagementOutcome, StatusCode, Value) {
    (ManagementOutcome::Unauthorized, StatusCode::UNAUTHORIZED, json!({ "error": why }))
}

/// Why a request does not reach the thread.
enum Refusal {
    Unauthorized(String),
    Body(StatusCode, &'static str),
}

async fn handle(context: &Rc<IoContext>, request: Request<Incoming>, payer: IpAddr) -> Result<Answer, Refusal> {
    let pipeline = &context.front.pipeline;
    let auth = authorization(&mut context.parser.borrow_mut(), request.headers());
    let auth = auth.map_err(|why| Refusal::Unauthorized(why.into()))?;
    let settings = pipeline.settings.load_full();
    check_http_auth(&settings, auth.view(), pipeline.clock.now())?;
    context.charge(&settings, payer, Act::Auth);
    let auth = VerifiedEvent::verify_one(&pipeline.verifier, auth)
        .map_err(|_| Refusal::Unauthorized("the signature of the authorization is wrong".into()))?;
    let body = read(request.into_body()).await?;
    context.charge(&settings, payer, Act::Message(body.len()));
    check_payload(auth.view(), &Sha256::digest(&body).into())?;
    Ok(ask(context, Authority::Signed(auth), body).await?)
}

/// Passes a request on to the thread and waits for its answer.
///
/// # Errors
/// When the thread is busy: the status and what is said.
pub(in crate::server) async fn ask(
    context: &IoContext,
    by: Authority,
    body: Bytes,
) -> Result<Answer, (StatusCode, &'static str)> {
    let (answer, answered) = oneshot::channel();
    let busy = (StatusCode::SERVICE_UNAVAILABLE, "the relay is busy; try again later");
    context.front.management.send(Job { by, body, answer }).map_err(|_| busy)?;
    match tokio::time::timeout(TIMEOUT, answered).await {
        Ok(Ok(answer)) => Ok(answer),
        // The act may still happen; the audit tells.
        Ok(Err(_)) | Err(_) => Err(busy),
    }
}

impl From<(StatusCode, &'static str)> for Refusal {
    fn from((status, why): (StatusCode, &'static str)) -> Self {
        Self::Body(status, why)
    }
}

impl From<NotAuthorized> for Refusal {
    fn from(error: NotAuthorized) -> Self {
        Self::Unauthorized(error.to_string())
    }
}

/// The event of `Authorization: Nostr <base64>` (NIP-98); its id is checked, its signature is not.
///
/// # Errors
/// What is wrong.
pub(in crate::server) fn authorization(parser: &mut Parser, headers: &HeaderMap) -> Result<Event, &'static str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, other) = (values.next(), values.next());
    let value = value.ok_or("an Authorization header with a NIP-98 event is required")?;
    if other.is_some() {
        return Err("there is more than one Authorization header");
    }
    let value = value.as_bytes().trim_ascii();
    let (scheme, text) = value.split_at_checked(5).ok_or("the Authorization header is not 'Nostr <base64>'")?;
    if !scheme.eq_ignore_ascii_case(b"Nostr") || !text.first().is_some_and(u8::is_ascii_whitespace) {
        return Err("the Authorization header is not 'Nostr <base64>'");
    }
    let text = BASE64.decode(text.trim_ascii()).map_err(|_| "the Authorization header is not base64")?;
    Event::parse(parser, &text).map_err(|_| "the Authorization header does not hold an event")
}

/// Reads a body, for those who may send one.
///
/// # Errors
/// The status and what is wrong.
pub(in crate::server) async fn read(body: Incoming) -> Result<Bytes, (StatusCode, &'static str)> {
    read_at_most(MAX_BODY, body, "the body is larger than 64 KiB").await
}

/// Reads a body of at most `max_bytes`, else it is `too_long`: of anybody, if that is no more than a socket's buffer.
///
/// # Errors
/// The status and what is wrong.
pub(in crate::server) async fn read_at_most(
    max_bytes: usize,
    body: Incoming,
    too_long: &'static str,
) -> Result<Bytes, (StatusCode, &'static str)> {
    match tokio::time::timeout(TIMEOUT, Limited::new(body, max_bytes).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err((StatusCode::PAYLOAD_TOO_LARGE, too_long)),
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "the body could not be read")),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}
