//! The dashboard over HTTP: its page and files, logging in and out, and calls of methods by whoever has a session.
//!
//! A request that changes something must come from the page itself: the cookie is `SameSite=Strict`, and `Origin` must
//! name the host that was asked. The body of a call is read for those with a session alone; of anybody else, no more
//! than a link.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, COOKIE, HOST, HeaderValue, ORIGIN, SET_COOKIE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::context::{DashboardContext, Side};
use super::sessions::{Token, Visitor};
use crate::metrics::ManagementOutcome;
use crate::nostr::VerifiedEvent;
use crate::nostr::bech32::npub;
use crate::pages::Page;
use crate::pages::dashboard;
use crate::policy::{Act, Login, Settings, check_login};
use crate::server::context::IoContext;
use crate::server::management::endpoint::{ask, authorization, read, read_at_most};
use crate::server::management::link::{Answer, Authority};
use crate::server::response::{HTML, Tagged};

const COOKIE_NAME: &str = "weir-session";

/// The longest body of a login by a link.
const MAX_LINK: usize = 64;

/// Answers a request below the dashboard's path, which is charged to `payer`.
pub async fn answer(
    context: &IoContext,
    dashboard: &DashboardContext,
    (side, payer): (Side, IpAddr),
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let rest = dashboard.below(request.uri().path()).unwrap_or_default().to_owned();
    let settings = context.front.pipeline.settings.load_full();
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    let visitor = visitor(dashboard, &settings, request.headers());
    let answered = match (&*rest, is_get) {
        ("" | "/", true) => return page(dashboard, &settings, request.headers()),
        ("/session", true) => session(dashboard, &settings, visitor.as_ref()),
        ("/login" | "/logout" | "/call", false) if !is_from_here(request.headers()) => {
            Err((StatusCode::FORBIDDEN, "this request comes from another site".into()))
        }
        ("/login", false) => log_in(context, dashboard, (side, payer), request).await,
        ("/logout", false) => Ok(log_out(dashboard, request.headers())),
        ("/call", false) => match visitor {
            Some(visitor) => call(context, visitor, request).await,
            None => Err((StatusCode::UNAUTHORIZED, "log in first".into())),
        },
        (path, true) => match dashboard::file(path) {
            Some(file) => return Tagged::new(file.media_type, file.text).answer(request.headers()),
            None => Err((StatusCode::NOT_FOUND, "there is nothing here".into())),
        },
        _ => Err((StatusCode::METHOD_NOT_ALLOWED, "this is no method of the dashboard".into())),
    };
    answered.unwrap_or_else(|(status, why)| {
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            context.front.pipeline.metrics.management(ManagementOutcome::Unauthorized);
            context.charge(&settings, payer, Act::Rejected);
        }
        let mut response = data(status, &json!({ "error": why }));
        // The rest of a body may be on its way.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    })
}

type Answered = Result<Response<Full<Bytes>>, (StatusCode, String)>;

fn data(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(value.to_string().into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn page(dashboard: &DashboardContext, settings: &Settings, asked: &HeaderMap) -> Response<Full<Bytes>> {
    let info = settings.moderation.info(&settings.info);
    let Page { html, policy } = dashboard::render(&info.name, &dashboard.options.path);
    let policy = HeaderValue::try_from(policy).expect("sources are visible ASCII");
    Tagged::new(HTML, html).answer_page(asked, policy)
}

/// Whether the page itself made a request: browsers tell the origin of each POST.
fn is_from_here(headers: &HeaderMap) -> bool {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value: &HeaderValue| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    };
    let (Some(origin), Some(host)) = (one(ORIGIN), one(HOST)) else { return false };
    origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value)
}

/// Who has a session and still may: a reload may have taken a key from the admins.
fn visitor(dashboard: &DashboardContext, settings: &Settings, headers: &HeaderMap) -> Option<Visitor> {
    let visitor = dashboard.sessions.find(cookie(headers)?, Instant::now())?;
    let may = match &visitor {
        Visitor::Key(key) => settings.admins.contains(key),
        Visitor::User(_) => true,
    };
    may.then_some(visitor)
}

fn session(dashboard: &DashboardContext, settings: &Settings, visitor: Option<&Visitor>) -> Answered {
    let who = visitor.map(|visitor| match visitor {
        Visitor::Key(key) => npub(key),
        Visitor::User(name) => name.clone(),
    });
    let challenge = dashboard.sessions.challenge(Instant::now()).map_err(internal)?;
    let told = json!({ "who": who, "challenge": challenge, "admins": !settings.admins.is_empty() });
    Ok(data(StatusCode::OK, &told))
}

fn internal(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn unauthorized(why: impl ToString) -> (StatusCode, String) {
    (StatusCode::UNAUTHORIZED, why.to_string())
}

/// Opens a session: by a signed login in `Authorization`, or by a link in the body.
async fn log_in(
    context: &IoContext,
    dashboard: &DashboardContext,
    (side, payer): (Side, IpAddr),
    request: Request<Incoming>,
) -> Answered {
    let is_secure = is_secure(request.headers());
    let token = if request.headers().contains_key(hyper::header::AUTHORIZATION) {
        by_signature(context, dashboard, (side, payer), request.headers())?
    } else {
        // Anybody may send one.
        let body = read_at_most(MAX_LINK, request.into_body(), "this is no link").await;
        let body = body.map_err(|(status, why)| (status, why.to_owned()))?;
        let link = std::str::from_utf8(&body).unwrap_or_default();
        dashboard.sessions.follow(link, Instant::now()).map_err(unauthorized)?
    };
    let seconds = dashboard.options.session_s;
    Ok(with_cookie(data(StatusCode::OK, &json!({ "result": true })), dashboard, (token.text(), seconds), is_secure))
}

fn by_signature(
    context: &IoContext,
    dashboard: &DashboardContext,
    (side, payer): (Side, IpAddr),
    headers: &HeaderMap,
) -> Result<Token, (StatusCode, String)> {
    let pipeline = &context.front.pipeline;
    let (settings, now) = (pipeline.settings.load(), Instant::now());
    let event = authorization(&mut context.parser.borrow_mut(), headers).map_err(unauthorized)?;
    let challenge = event.view().tags().values("challenge").next().map(|text| text.to_text()).unwrap_or_default();
    if !dashboard.sessions.gave(&challenge, now) {
        return Err(unauthorized("the challenge is too old; try again"));
    }
    let path = format!("{}/login", dashboard.options.path);
    let login = Login { path: &path, also: &dashboard.hosts(side), challenge: &challenge };
    check_login(&settings, event.view(), pipeline.clock.now(), login).map_err(unauthorized)?;
    context.charge(&settings, payer, Act::Auth);
    let event = VerifiedEvent::verify_one(&pipeline.verifier, event)
        .map_err(|_| unauthorized("the signature of the login is wrong"))?;
    let key = event.view().pubkey();
    tracing::info!(%key, "an admin logged in to the dashboard");
    dashboard.sessions.log_in(key, event.view().id(), now).map_err(unauthorized)
}

fn log_out(dashboard: &DashboardContext, headers: &HeaderMap) -> Response<Full<Bytes>> {
    if let Some(token) = cookie(headers) {
        dashboard.sessions.end(token);
    }
    with_cookie(data(StatusCode::OK, &json!({ "result": true })), dashboard, ("", 0), is_secure(headers))
}

/// Whether the browser came by TLS: its page then sends the cookie by TLS alone.
fn is_secure(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

fn with_cookie(
    mut response: Response<Full<Bytes>>,
    dashboard: &DashboardContext,
    (token, seconds): (&str, u64),
    is_secure: bool,
) -> Response<Full<Bytes>> {
    let secure = if is_secure { "; Secure" } else { "" };
    let path = &dashboard.options.path;
    let cookie = format!("{COOKIE_NAME}={token}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let cookie = HeaderValue::try_from(cookie).expect("the path of the configuration is visible ASCII");
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// Carries a method out.
async fn call(context: &IoContext, visitor: Visitor, request: Request<Incoming>) -> Answered {
    let told = |(status, why): (StatusCode, &str)| (status, why.to_owned());
    let body = read(request.into_body()).await.map_err(told)?;
    let answer = ask(context, Authority::Session(visitor.name()), body).await.map_err(told)?;
    let is_stopping = context.draining.get();
    let (outcome, value) = match answer {
        Answer::Done(result) => (ManagementOutcome::Done, json!({ "result": result, "stopping": is_stopping })),
        Answer::Failed(error) => (ManagementOutcome::Failed, json!({ "error": error, "stopping": is_stopping })),
        Answer::Unauthorized(why) => return Err(unauthorized(why)),
    };
    context.front.pipeline.metrics.management(outcome);
    Ok(data(StatusCode::OK, &value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn a_request_from_another_site_is_told_from_the_pages_own() {
        let is = |pairs: &[(&'static str, &'static str)]| is_from_here(&headers(pairs));
        assert!(is(&[("host", "relay.example.com"), ("origin", "https://relay.example.com")]));
        assert!(is(&[("host", "127.0.0.1:9090"), ("origin", "http://127.0.0.1:9090")]));
        for pairs in [
            &[("host", "relay.example.com")][..],
            &[("origin", "https://relay.example.com")],
            &[("host", "relay.example.com"), ("origin", "null")],
            &[("host", "relay.example.com"), ("origin", "https://evil.example")],
            &[("host", "relay.example.com"), ("origin", "https://relay.example.com:8443")],
            &[("host", "relay.example.com"), ("origin", "https://relay.example.com.evil.example")],
            &[("host", "a"), ("origin", "http://a"), ("origin", "http://a")],
        ] {
            assert!(!is(pairs), "{pairs:?}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let found = |value: &'static str| cookie(&headers(&[("cookie", value)])).map(str::to_owned);
        assert_eq!(found("a=b; weir-session=77; c=d").as_deref(), Some("77"));
        assert_eq!(found("weir-session2=77; xweir-session=1"), None);
        assert_eq!(found("weir-session"), None);
    }
}
