//! The parts of HTTP responses that all pages share.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Response, StatusCode};
use sha2::{Digest, Sha256};

use crate::nostr::hex;

/// The media type of pages.
pub const HTML: &str = "text/html; charset=utf-8";

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

/// A text that browsers keep. They ask for it again by its tag, and it is sent only if it is another one by then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tagged {
    media_type: &'static str,
    body: Bytes,
    tag: HeaderValue,
}

impl Tagged {
    /// A text of this media type, and its tag.
    pub fn new(media_type: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let digest: [u8; 32] = Sha256::digest(&body).into();
        let tag = HeaderValue::try_from(format!("\"{}\"", hex::encode(&digest[..12])));
        Self { media_type, body, tag: tag.expect("digits are visible ASCII") }
    }

    /// Answers a request with the headers `asked`.
    pub fn answer(&self, asked: &HeaderMap) -> Response<Full<Bytes>> {
        let has_it = self.is_held(asked);
        let mut response = Response::new(Full::new(if has_it { Bytes::new() } else { self.body.clone() }));
        *response.status_mut() = if has_it { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(ETAG, self.tag.clone());
        response
    }

    /// The same for a page, under a policy of what it may load.
    pub fn answer_page(&self, asked: &HeaderMap, policy: HeaderValue) -> Response<Full<Bytes>> {
        let mut response = self.answer(asked);
        let headers = response.headers_mut();
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(CONTENT_SECURITY_POLICY, policy);
        response
    }

    /// Whether the browser holds it, by a weak comparison (RFC 9110 §13.1.2).
    fn is_held(&self, asked: &HeaderMap) -> bool {
        let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|list| list.split(',')).map(str::trim).any(|one| {
            let tag = one.strip_prefix("W/").unwrap_or(one);
            one == "*" || tag.as_bytes() == self.tag.as_bytes()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_sent_unless_one_of_the_tags_that_a_browser_holds_is_its_own() {
        let text = Tagged::new("text/css", "p{}");
        let tag = text.tag.to_str().expect("visible ASCII").to_owned();
        let status = |held: &[&str]| {
            let mut headers = HeaderMap::new();
            for held in held {
                headers.append(IF_NONE_MATCH, HeaderValue::try_from(*held).expect("visible ASCII"));
            }
            text.answer(&headers).status().as_u16()
        };
        let (weak, among, bare) = (format!("W/{tag}"), format!("\"x\" , W/{tag}"), tag.trim_matches('"').to_owned());
        for held in [&[&*tag][..], &[&weak], &[&among], &["\"x\"", &tag], &["*"]] {
            assert_eq!(status(held), 304, "{held:?}");
        }
        for other in [&[][..], &[""], &["\"x\""], &[&bare], &["W/"]] {
            assert_eq!(status(other), 200, "{other:?}");
        }
        assert_ne!(Tagged::new("text/css", "p{}q{}").tag, text.tag);
    }
}
