//! Plain HTTP: the upgrade, the information document (NIP-11), CORS, and a page for browsers.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, CONNECTION, CONTENT_TYPE, HOST, HeaderValue,
    RETRY_AFTER, VARY,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::admission::HalfOpenPlace;
use super::change_feed;
use super::connection;
use super::context::IoContext;
use super::dashboard::{self, context::DashboardContext, context::Side};
use super::info;
use super::landing_page;
use super::management;
use super::options::Options;
use super::proxy_protocol::{self, Caller};
use super::response::{MANAGED_METHODS, METHODS, method_not_allowed, text, with_cors};
use super::turns;
use crate::metrics::TurnedAway;
use crate::policy::{self, Act, MalformedForwardedFor, Settings, Standing, Suspect};
use crate::ws::upgrade;

/// The media type of the information document (NIP-11).
const NOSTR_JSON: &str = "application/nostr+json";

/// The media type that browsers ask for.
const HTML: &str = "text/html";

/// How many requests one socket is answered. Each is charged to its address. hyper handles up to 16 of them, about a
/// millisecond's work, before it yields.
const MAX_REQUESTS: u32 = 64;

/// Serves HTTP on one socket until the socket is upgraded, closes, has had [`MAX_REQUESTS`], or must make
/// room. It takes turns with the connections of its thread.
pub async fn serve(context: Rc<IoContext>, mut stream: TcpStream, peer: SocketAddr, waiting: HalfOpenPlace) {
    // weir gathers small replies itself, so Nagle's algorithm would only add delay.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let (caller, waiting) = if context.front.options.proxy_protocol {
        let Some(entered) = proxy_protocol::enter(&context, &mut stream, peer, waiting).await else { return };
        entered
    } else {
        (Caller { address: peer, may_forward: true }, waiting)
    };
    let header_timeout = Duration::from_secs(context.front.options.header_timeout_s.max(1));
    let (serving, requests) = (Rc::clone(&context), &Cell::new(0));
    let service = service_fn(move |request| {
        requests.set(requests.get() + 1);
        let serving = Rc::clone(&serving);
        async move {
            let mut response = handle(&serving, request, caller).await;
            if requests.get() >= MAX_REQUESTS || serving.draining.get() {
                response.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_headers(64)
            .max_buf_size(16 << 10)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
    );
    let place = turns::TurnState::new(Instant::now());
    let (mut leaving, mut is_told) = (pin!(context.leaving.notified()), false);
    let served = poll_fn(|cx| {
        let began = Instant::now();
        if !is_told && (leaving.as_mut().poll(cx).is_ready() || context.draining.get()) {
            is_told = true;
            // hyper would close a new socket without waiting for its request.
            if requests.get() > 0 {
                served.as_mut().graceful_shutdown();
            }
        }
        if context.turns.begin(&place, began, cx).is_none() {
            return Poll::Pending;
        }
        let polled = served.as_mut().poll(cx);
        context.end_poll(&place, began);
        polled
    });
    tokio::select! {
        served = served => if let Err(error) = served {
            // A browser keeps its socket for a while after an answer.
            if error.is_timeout() && requests.get() == 0 {
                context.refuse(TurnedAway::Slow, caller.address.ip());
            } else if error.is_parse() && context.front.options.trusted_proxies.contains(peer.ip()) {
                context.front.proxy_faults.sent_rubbish(context.front.pipeline.clock.now_us());
            }
            tracing::trace!(%error, "an HTTP connection ended");
        },
        () = waiting.is_sent_away() => {}
    }
}

/// Answers one request. Only management, the dashboard and the feed of changes wait for anything.
async fn handle(context: &Rc<IoContext>, request: Request<Incoming>, caller: Caller) -> Response<Full<Bytes>> {
    let mut response = match handle_at_once(context, request, caller) {
        Handled::Answered(response) => response,
        Handled::Management(request, payer) => management::answer(context, request, payer).await,
        Handled::Dashboard(dashboard, request, payer) => {
            dashboard::site::answer(context, &dashboard, (Side::Relay, payer), request).await
        }
        Handled::Changes(request, payer) => {
            let asked = (request.method(), request.uri().query().unwrap_or_default());
            change_feed::answer_public(context, asked, request.headers(), payer).await
        }
    };
    if !context.front.pipeline.settings.load().admins.is_empty() {
        // Browsers ask before a management request (NIP-86), and `*` does not cover Authorization.
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("*, Authorization"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(MANAGED_METHODS));
    }
    response
}

/// What becomes of a request at once.
enum Handled {
    /// It is answered.
    Answered(Response<Full<Bytes>>),
    /// It is for management, and charged to this address.
    Management(Request<Incoming>, IpAddr),
    /// It is for the dashboard, and charged to this address.
    Dashboard(Arc<DashboardContext>, Request<Incoming>, IpAddr),
    /// It is for the feed of changes, and charged to this address.
    Changes(Request<Incoming>, IpAddr),
}

impl From<Response<Full<Bytes>>> for Handled {
    fn from(response: Response<Full<Bytes>>) -> Self {
        Self::Answered(response)
    }
}

fn handle_at_once(context: &Rc<IoContext>, mut request: Request<Incoming>, caller: Caller) -> Handled {
    let front = &context.front;
    if !names_one_host(request.version(), request.headers()) {
        return turn_away(context, TurnedAway::Host, caller.address.ip()).into();
    }
    let settings = front.pipeline.settings.load();
    let address = client_address(&front.options, request.headers(), caller);
    let payer = address.as_ref().map_or(caller.address.ip(), |address| *address);
    if !may_ask(context, &settings, payer) {
        return turn_away(context, TurnedAway::Debt, payer).into();
    }
    if request.uri().path() == change_feed::PATH && front.changes.is_public() {
        return Handled::Changes(request, payer);
    }
    if let Some(dashboard) = front.dashboard.as_ref().filter(|dashboard| dashboard.is_on(Side::Relay))
        && dashboard.below(request.uri().path()).is_some()
    {
        return Handled::Dashboard(Arc::clone(dashboard), request, payer);
    }
    if request.uri().path() != front.options.path {
        return text(StatusCode::NOT_FOUND, "there is nothing here; the relay is elsewhere\n").into();
    }
    if upgrade::is_meant(&request) {
        front.proxy_faults.watch(&request, front.pipeline.clock.now_us());
    }
    if upgrade::is_requested(&request) {
        return match address {
            Ok(address) => upgrade_to_websocket(context, &settings, &mut request, address),
            Err(MalformedForwardedFor) => turn_away(context, TurnedAway::Forwarded, caller.address.ip()),
        }
        .into();
    }
    let is_managed = !settings.admins.is_empty();
    if is_managed && management::is_meant(request.method(), request.headers()) {
        return Handled::Management(request, payer);
    }
    let mut response = match *request.method() {
        Method::OPTIONS => with_cors(Response::builder().status(StatusCode::NO_CONTENT), Bytes::new()),
        Method::GET | Method::HEAD if names(request.headers(), NOSTR_JSON) => {
            let response = Response::builder().header(CONTENT_TYPE, NOSTR_JSON);
            with_cors(response, info::document(&settings, front.pipeline.reading.sessions.options().enabled).into())
        }
        Method::GET | Method::HEAD if names(request.headers(), HTML) => {
            landing_page::answer((&front.page, &front.pipeline), (&settings, &front.options.path), request.headers())
        }
        Method::GET | Method::HEAD => text(StatusCode::OK, info::greeting(&settings)),
        _ => method_not_allowed(if is_managed { MANAGED_METHODS } else { METHODS }),
    };
    // Caches keep the document and the page apart.
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response.into()
}

/// Whether there is exactly one Host, as HTTP/1.1 demands (RFC 9112 §3.2); HTTP/1.0 may do without.
pub fn names_one_host(version: Version, headers: &HeaderMap) -> bool {
    match headers.get_all(HOST).iter().count() {
        0 => version < Version::HTTP_11,
        1 => true,
        _ => false,
    }
}

/// Charges a request to its address, whose bill outlives connections. Returns false if the address owes too much.
fn may_ask(context: &IoContext, settings: &Settings, address: IpAddr) -> bool {
    !matches!(context.charge(settings, address, Act::Request), Standing::Closed(_))
}

/// The client's address: behind trusted proxies, the one that they report.
fn client_address(options: &Options, headers: &HeaderMap, caller: Caller) -> Result<IpAddr, MalformedForwardedFor> {
    if !caller.may_forward {
        return Ok(caller.address.ip().to_canonical());
    }
    let forwarded: Vec<&[u8]> = headers.get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes).collect();
    policy::client_address(caller.address.ip(), forwarded.into_iter(), &options.trusted_proxies)
}

fn upgrade_to_websocket(
    context: &Rc<IoContext>,
    settings: &Settings,
    request: &mut Request<Incoming>,
    address: IpAddr,
) -> Response<Full<Bytes>> {
    let front = &context.front;
    if !settings.welcomes_address(address) {
        return turn_away(context, TurnedAway::Denied, address);
    }
    let exempt = settings.rates.exempt_addresses.contains(address);
    let suspect = Suspect::Address(settings.rates.group(address));
    let now_us = front.pipeline.clock.now_us();
    if !exempt && front.pipeline.offenders.refusal(&settings.policy.offenders, suspect, now_us).is_some() {
        return turn_away(context, TurnedAway::Offender, address);
    }
    let place = match front.admission.enter(settings.rates.group(address), exempt) {
        Ok(place) => place,
        Err(reason) => return turn_away(context, reason, address),
    };
    match upgrade::accept(request, front.options.compression) {
        Ok((response, upgrading)) => {
            let visitor = Rc::clone(&context.visitors);
            tokio::task::spawn_local(connection::run(Rc::clone(context), upgrading, address, place, visitor));
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
        TurnedAway::Offender => (StatusCode::FORBIDDEN, "too many events from this address were refused\n"),
        TurnedAway::Forwarded => (StatusCode::BAD_REQUEST, "X-Forwarded-For is not a list of addresses\n"),
        TurnedAway::Host => (StatusCode::BAD_REQUEST, "a request names one host\n"),
        TurnedAway::HalfOpen | TurnedAway::Slow => (StatusCode::REQUEST_TIMEOUT, "the request took too long\n"),
        // These get no answer.
        TurnedAway::Direct | TurnedAway::ProxyHeader => (StatusCode::BAD_REQUEST, "connect through the proxy\n"),
    };
    let mut response = text(status, why);
    if matches!(reason, TurnedAway::Full | TurnedAway::Address | TurnedAway::Debt) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("30"));
    }
    response
}

/// Whether the Accept headers name a media type, also in a list or with parameters.
fn names(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = values.flat_map(|value| value.split(','));
    types.any(|one| one.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_found_in_a_list_of_types() {
        let asks = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            [NOSTR_JSON, HTML].map(|media_type| names(&headers, media_type))
        };
        assert_eq!(asks("application/nostr+json"), [true, false]);
        assert_eq!(asks("text/html, application/nostr+json;q=0.9, */*"), [true, true]);
        assert_eq!(asks("Application/Nostr+JSON"), [true, false]);
        assert_eq!(asks("Text/HTML;q=0.5,*/*"), [false, true]);
        assert_eq!(asks("*/*"), [false, false]);
        assert_eq!(asks("application/nostr+json+rpc"), [false, false]);
        assert!(!names(&HeaderMap::new(), HTML));
    }
}
