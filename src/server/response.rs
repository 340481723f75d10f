//! The parts of HTTP responses that all pages share.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CONTENT_TYPE,
    HeaderValue,
};
use hyper::{Response, StatusCode};

/// The methods served here.
pub const METHODS: &str = "GET, HEAD, OPTIONS";

/// The same where admins may manage the relay.
pub const MANAGED_METHODS: &str = "GET, HEAD, OPTIONS, POST";

/// Adds the three headers that NIP-11 demands.
pub fn with_cors(response: hyper::http::response::Builder, body: Bytes) -> Response<Full<Bytes>> {
    response
        .header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header(ACCESS_CONTROL_ALLOW_HEADERS, "*")
        .header(ACCESS_CONTROL_ALLOW_METHODS, METHODS)
        .body(Full::new(body))
        .expect("every part of the response is valid")
}

/// The answer to a method that is not served, with those that are (RFC 9110 §15.5.6).
pub fn method_not_allowed(served: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("served here: {served}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(served));
    response
}

/// A short answer in plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    with_cors(response, body.into())
}
