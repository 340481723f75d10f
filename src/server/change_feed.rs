//! `/changes`: the feed of changes, for peers and tools of the operator (`pipeline::query::changes`).
//!
//! It is off unless the `[changes]` section turns it on: on the address of the metrics for whoever reaches that, and on
//! the clients' address for whoever knows the token. Answers are bounded, and so is their number: a place is held from
//! the request until the last byte of the answer has left. Nothing is read from the store on an io thread, except for
//! the number of its last commit. No web page may read it: the answers have no CORS headers, because a browser may
//! reach an address that its pages must not.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde_json::json;

use super::context::IoContext;
use super::response::method_not_allowed;
use crate::pipeline::query::changes::{ChangesError, ChangesJob, ChangesPage, Cursor, MOST_LINES};
use crate::policy::Act;

/// Where it is served.
pub const PATH: &str = "/changes";

/// The longest that a request may wait for a change, in seconds.
const MOST_WAIT_S: u64 = 60;

/// How often the store is asked whether anybody committed something.
const LOOK: Duration = Duration::from_millis(50);

/// The media type of lines of JSON.
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Where it goes on; `None` at the beginning.
    since: Option<Cursor>,
    lines: usize,
    wait: Duration,
}

impl Ask {
    /// Reads a query string.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    fn parse(query: &str) -> Result<Self, String> {
        let mut given: [Option<&str>; 3] = [None; 3];
        const NAMES: [&str; 3] = ["since", "limit", "wait"];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let place = NAMES.iter().position(|known| *known == name);
            let place = place.ok_or("the parameters are since, limit and wait")?;
            if given[place].replace(value).is_some() {
                return Err(format!("{} is given twice", NAMES[place]));
            }
        }
        let number = |place: usize, default: u64, range: std::ops::RangeInclusive<u64>| {
            let Some(value) = given[place] else { return Ok(default) };
            let is_digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let number = value.parse().ok().filter(|number| is_digits && range.contains(number));
            number.ok_or_else(|| format!("{} is not a number from {} to {}", NAMES[place], range.start(), range.end()))
        };
        let since = match given[0] {
            None | Some("0") => None,
            Some(text) => Some(text.parse().map_err(|_| "since is neither 0 nor the cursor of a line")?),
        };
        let lines = number(1, MOST_LINES as u64, 1..=MOST_LINES as u64)? as usize;
        Ok(Self { since, lines, wait: Duration::from_secs(number(2, 0, 0..=MOST_WAIT_S)?) })
    }
}

/// Answers a request on the clients' address, which must name the token.
pub async fn answer_public(
    context: &IoContext,
    (method, query): (&Method, &str),
    headers: &HeaderMap,
    address: IpAddr,
) -> Response<Full<Bytes>> {
    if context.front.changes.admits(headers) {
        return answer(context, (method, query), address).await;
    }
    context.charge(&context.front.pipeline.settings.load(), address, Act::Rejected);
    let mut response = error(StatusCode::UNAUTHORIZED, "token", "the token of the feed is needed");
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Answers a request of somebody who may read the feed.
pub async fn answer(context: &IoContext, (method, query): (&Method, &str), address: IpAddr) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return method_not_allowed("GET, HEAD");
    }
    let ask = match Ask::parse(query) {
        Ok(ask) => ask,
        Err(why) => return error(StatusCode::BAD_REQUEST, "query", &why),
    };
    let Some(place) = context.front.changes.enter() else {
        return busy("others read the feed already");
    };
    match tell(context, ask, address).await {
        Ok(ChangesPage { mut text, cursor, more, .. }) => {
            text.extend_from_slice(format!("{{\"cursor\":\"{cursor}\",\"more\":{more}}}\n").as_bytes());
            lines(place.body(text))
        }
        Err(ChangesError::Lost) => {
            let why = "not everything since this cursor is known: forget what you hold and begin with since=0";
            error(StatusCode::GONE, "lost", why)
        }
        Err(ChangesError::Busy) => busy("too many queries are waiting"),
        Err(ChangesError::Failed) => error(StatusCode::INTERNAL_SERVER_ERROR, "store", "the store cannot be read"),
    }
}

/// Has the readers tell what changed, and waits for a change where there is none and the request allows it.
async fn tell(context: &IoContext, mut ask: Ask, address: IpAddr) -> Result<ChangesPage, ChangesError> {
    let pipeline = &context.front.pipeline;
    let address = pipeline.settings.load().rates.group(address);
    let deadline = Instant::now() + ask.wait;
    loop {
        let (job, told) = ChangesJob::new(address, ask.since, ask.lines);
        pipeline.reading.submit(job);
        // The readers end without an answer only when the relay does.
        let told = told.await.unwrap_or(Err(ChangesError::Busy))?;
        ask.since = Some(told.cursor);
        let is_over = || context.draining.get() || Instant::now() >= deadline;
        if !told.text.is_empty() || is_over() {
            return Ok(told);
        }
        while !told.more && pipeline.store.txn_id().is_ok_and(|now| now == told.seen) {
            if is_over() {
                return Ok(told);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn lines(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, LINES);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn busy(why: &str) -> Response<Full<Bytes>> {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "busy", why);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// An error that a program understands by its name, and people by what it says.
fn error(status: StatusCode, name: &str, why: &str) -> Response<Full<Bytes>> {
    let text = json!({ "error": name, "message": why }).to_string() + "\n";
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_where_how_much_and_how_long_and_nothing_else() {
        let ask = |since: Option<&str>, lines, wait_s| {
            let since = since.map(|text| text.parse().expect("a cursor"));
            Ok(Ask { since, lines, wait: Duration::from_secs(wait_s) })
        };
        assert_eq!(Ask::parse(""), ask(None, 10_000, 0));
        assert_eq!(Ask::parse("since=0&limit=1&wait=60"), ask(None, 1, 60));
        let last = "ffffffff.1099511627775.281474976710655";
        assert_eq!(Ask::parse(&format!("wait=0&&since={last}")), ask(Some(last), 10_000, 0));
        let since = "since is neither 0 nor the cursor of a line";
        for (query, why) in [
            ("since", since),
            ("since=", since),
            ("since=00", since),
            ("since=1", since),
            ("since=-1", since),
            ("since=%30", since),
            ("since=0000000.1.1", since),
            ("since=00000000.1", since),
            ("since=00000000.1.1.1", since),
            ("since=00000000.+1.1", since),
            ("since=00000000.01.1", since),
            ("since=0000000A.1.1", since),
            ("since=100000000.1.1", since),
            ("since=00000000.1099511627776.1", since),
            ("since=00000000.1.281474976710656", since),
            ("since=00000000.99999999999999999999.1", since),
            ("limit=0", "limit is not a number from 1 to 10000"),
            ("limit=10001", "limit is not a number from 1 to 10000"),
            ("limit=+1", "limit is not a number from 1 to 10000"),
            ("limit=", "limit is not a number from 1 to 10000"),
            ("wait=61", "wait is not a number from 0 to 60"),
            ("wait=1.5", "wait is not a number from 0 to 60"),
            ("wait=99999999999999999999", "wait is not a number from 0 to 60"),
            ("since=0&since=0", "since is given twice"),
            ("follow=1", "the parameters are since, limit and wait"),
            ("=1", "the parameters are since, limit and wait"),
        ] {
            assert_eq!(Ask::parse(query), Err(why.into()), "{query}");
        }
    }
}
