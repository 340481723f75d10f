//! Plain HTTP: the upgrade, the information document (NIP-11), CORS, and a word for people with browsers.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::connection;
use super::context::IoContext;
use super::info;
use super::options::Options;
use crate::metrics::TurnedAway;
use crate::policy::{self, Act, MalformedForwardedFor, Settings, Standing};
use crate::ws::upgrade;

/// The media type of the information document (NIP-11).
const NOSTR_JSON: &str = "application/nostr+json";

/// What is served here.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// Answers one request.
pub fn handle(context: &Rc<IoContext>, mut request: Request<Incoming>, from: SocketAddr) -> Response<Full<Bytes>> {
    let front = &context.front;
    if !names_one_host(request.version(), request.headers()) {
        return turn_away(context, TurnedAway::Host, from.ip());
    }
    let settings = front.pipeline.settings.load();
    let address = client_address(&front.options, request.headers(), from);
    let payer = address.as_ref().map_or(from.ip(), |address| *address);
    if !may_ask(context, &settings, payer) {
        return turn_away(context, TurnedAway::Debt, payer);
    }
    if request.uri().path() != front.options.path {
        return text(StatusCode::NOT_FOUND, "there is nothing here; the relay is elsewhere\n");
    }
    if upgrade::is_meant(&request) {
        front.proxy_faults.watch(&request, front.pipeline.clock.now_us());
    }
    if upgrade::is_requested(&request) {
        return match address {
            Ok(address) => upgrade_to_websocket(context, &settings, &mut request, address),
            Err(MalformedForwardedFor) => turn_away(context, TurnedAway::Forwarded, from.ip()),
        };
    }
    match *request.method() {
        Method::OPTIONS => with_cors(Response::builder().status(StatusCode::NO_CONTENT), Bytes::new()),
        Method::GET | Method::HEAD if wants_info(request.headers()) => {
            let response = Response::builder().header(CONTENT_TYPE, NOSTR_JSON);
            with_cors(response, info::document(&settings, front.pipeline.reading.sessions.options().enabled).into())
        }
        Method::GET | Method::HEAD => text(StatusCode::OK, info::greeting(&settings)),
        _ => method_not_allowed(METHODS),
    }
}

/// Whether there is exactly one Host, as HTTP/1.1 demands (RFC 9112 §3.2); HTTP/1.0 may do without.
pub fn names_one_host(version: Version, headers: &HeaderMap) -> bool {
    match headers.get_all(HOST).iter().count() {
        0 => version < Version::HTTP_11,
        1 => true,
        _ => false,
    }
}

/// Charges a request to its address, whose bill outlives connections; `false` if that owes too much to be heard.
fn may_ask(context: &IoContext, settings: &Settings, address: IpAddr) -> bool {
    let front = &context.front;
    let now_us = front.pipeline.clock.now_us();
    let buckets = front.address_rates.get(settings.rates.group(address), now_us);
    !matches!(settings.rates.charge_address(address, &buckets, Act::Request, now_us), Standing::Closed(_))
}

/// Where the client is: behind trusted proxies, where they say it is.
fn client_address(options: &Options, headers: &HeaderMap, from: SocketAddr) -> Result<IpAddr, MalformedForwardedFor> {
    let forwarded: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    policy::client_address(from.ip(), forwarded.into_iter(), &options.trusted_proxies)
}

fn upgrade_to_websocket(
    context: &Rc<IoContext>,
    settings: &Settings,
    request: &mut Request<Incoming>,
    address: IpAddr,
) -> Response<Full<Bytes>> {
    let front = &context.front;
    if !settings.access.admits(address) {
        return turn_away(context, TurnedAway::Denied, address);
    }
    let exempt = settings.rates.exempt_addresses.contains(address);
    let place = match front.admission.enter(settings.rates.group(address), exempt) {
        Ok(place) => place,
        Err(reason) => return turn_away(context, reason, address),
    };
    match upgrade::accept(request, front.options.compression) {
        Ok((response, upgrading)) => {
            tokio::task::spawn_local(connection::run(Rc::clone(context), upgrading, address, place));
            response.map(|_| Full::default())
        }
        Err(refusal) => refusal.response().map(|_| Full::from(format!("{refusal}\n"))),
    }
}

fn turn_away(context: &IoContext, reason: TurnedAway, address: IpAddr) -> Response<Full<Bytes>> {
    context.refuse(reason, address);
    let (status, why) = match reason {
        TurnedAway::Full => (StatusCode::SERVICE_UNAVAILABLE, "the relay is full; try again later\n"),
        TurnedAway::Address => (StatusCode::TOO_MANY_REQUESTS, "too many connections from this address\n"),
        TurnedAway::Debt => (StatusCode::TOO_MANY_REQUESTS, "this address asks for too much; try again later\n"),
        TurnedAway::Denied => (StatusCode::FORBIDDEN, "this address is not welcome here\n"),
        TurnedAway::Forwarded => (StatusCode::BAD_REQUEST, "X-Forwarded-For is not a list of addresses\n"),
        TurnedAway::Host => (StatusCode::BAD_REQUEST, "a request names one host\n"),
        TurnedAway::HalfOpen | TurnedAway::Slow => (StatusCode::REQUEST_TIMEOUT, "the request took too long\n"),
    };
    let mut response = text(status, why);
    if matches!(reason, TurnedAway::Full | TurnedAway::Address | TurnedAway::Debt) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
    }
    response
}

/// Whether one of the media types asked for is NIP-11's, in a list and with parameters too.
fn wants_info(headers: &HeaderMap) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(','));
    types.any(|one| one.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(NOSTR_JSON)))
}

/// All three headers that NIP-11 demands.
fn with_cors(response: hyper::http::response::Builder, body: Bytes) -> Response<Full<Bytes>> {
    response
        .header(ACCESS_CONTROL_ALLOW_ORIGIN, "*")
        .header(ACCESS_CONTROL_ALLOW_HEADERS, "*")
        .header(ACCESS_CONTROL_ALLOW_METHODS, METHODS)
        .body(Full::new(body))
        .expect("every part of the response is valid")
}

/// The refusal of a method, with those that are served (RFC 9110 §15.5.6).
pub fn method_not_allowed(served: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("served here: {served}\n"));
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(served));
    response
}

/// A short answer for people.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let response = Response::builder().status(status).header(CONTENT_TYPE, "text/plain; charset=utf-8");
    with_cors(response, body.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_information_document_is_found_in_a_list_of_types() {
        let asks = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            wants_info(&headers)
        };
        assert!(asks("application/nostr+json"));
        assert!(asks("text/html, application/nostr+json;q=0.9, */*"));
        assert!(asks("Application/Nostr+JSON"));
        assert!(!asks("*/*"));
        assert!(!asks("application/nostr+json+rpc"));
        assert!(!wants_info(&HeaderMap::new()));
    }
}
