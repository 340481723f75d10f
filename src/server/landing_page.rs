//! Serves the landing page to browsers: the page of `pages`, kept until the settings, the figures or the address
//! change.
//!
//! Figures are gathered once a second at most, and only while somebody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue};
use hyper::{HeaderMap, Response};

use super::info;
use super::response::{HTML, Tagged};
use crate::nostr::Timestamp;
use crate::pages::landing_page::render;
use crate::pages::{LandingPage, Page, Stats};
use crate::pipeline::Serving;
use crate::policy::{RelayUrl, Settings};
use crate::store::{Seq, StoreError};

/// How long figures are kept.
const FRESH: Duration = Duration::from_secs(1);

/// Events that are looked at for the newest one: those that arrived last. Some may have been removed, and some are
/// dated back on purpose (NIP-59).
const LAST_ARRIVALS: u64 = 32;

/// The page as it was rendered last.
#[derive(Default)]
pub struct PageCache(ArcSwapOption<CachedPage>);

/// What a page was rendered from.
#[derive(Clone)]
struct PageInputs {
    settings: Arc<Settings>,
    address: String,
    stats: Option<Stats>,
    is_full: bool,
}

struct CachedPage {
    from: PageInputs,
    at: Instant,
    text: Tagged,
    policy: HeaderValue,
}

impl PageInputs {
    fn is_same(&self, other: &Self) -> bool {
        let figures = |one: &Self| (one.stats, one.is_full);
        Arc::ptr_eq(&self.settings, &other.settings) && self.address == other.address && figures(self) == figures(other)
    }
}

/// Answers a browser.
pub fn answer(
    (kept, serving): (&PageCache, &Serving),
    (settings, path): (&Arc<Settings>, &str),
    headers: &HeaderMap,
) -> Response<Full<Bytes>> {
    let address = address(settings, headers, path);
    let page = kept.0.load_full();
    let fresh = page.filter(|page| {
        let from = &page.from;
        page.at.elapsed() < FRESH && Arc::ptr_eq(&from.settings, settings) && from.address == address
    });
    let page = fresh.unwrap_or_else(|| {
        let stats = settings.info.public_stats.then(|| stats(serving)).and_then(|stats| {
            stats.inspect_err(|error| tracing::warn!(%error, "the store could not be measured for the page")).ok()
        });
        let is_full = !serving.writable.get();
        make((kept, serving), PageInputs { settings: Arc::clone(settings), address, stats, is_full })
    });
    page.text.answer_page(headers, page.policy.clone())
}

/// The page made of `from`: the one that is kept, if it was made of the same.
fn make((last, serving): (&PageCache, &Serving), from: PageInputs) -> Arc<CachedPage> {
    let at = Instant::now();
    let kept = last.0.load_full().filter(|kept| kept.from.is_same(&from));
    let rendered = match kept {
        Some(kept) => CachedPage { from, at, text: kept.text.clone(), policy: kept.policy.clone() },
        None => {
            let negentropy = serving.reading.sessions.options().enabled;
            let (settings, address) = (&*from.settings, &from.address);
            let nips = info::nips(settings, negentropy);
            let page = LandingPage { settings, nips: &nips, address, stats: from.stats, is_full: from.is_full };
            let Page { html, policy } = render(&page);
            let policy = HeaderValue::try_from(policy).expect("hashes and origins are visible ASCII");
            CachedPage { from, at, text: Tagged::new(HTML, html), policy }
        }
    };
    let rendered = Arc::new(rendered);
    last.0.store(Some(Arc::clone(&rendered)));
    rendered
}

/// The URL that clients connect to: the operator's first, or else the one by which the browser came here.
fn address(settings: &Settings, headers: &HeaderMap, path: &str) -> String {
    if let Some(url) = settings.auth.urls.iter().next() {
        return url.as_str().into();
    }
    let is_secure = headers.get("x-forwarded-proto").is_some_and(|scheme| scheme.as_bytes() == b"https");
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let of = |host: &str| format!("{}://{host}{path}", if is_secure { "wss" } else { "ws" });
    let is_host = |url: &RelayUrl| !url.as_str().contains(['@', '?', '#', '\\']) && (1..=255).contains(&host.len());
    RelayUrl::parse(&of(host)).filter(is_host).map_or_else(|| of("localhost"), |url| url.as_str().into())
}

/// Reads counters, one page of each table and a few events.
fn stats(serving: &Serving) -> Result<Stats, StoreError> {
    let usage = serving.store.usage()?;
    let newest = newest(serving)?;
    Ok(Stats {
        events: usage.events(),
        bytes: usage.used_bytes,
        clients: u64::try_from(serving.metrics.connections.get()).unwrap_or_default(),
        newest_s: Stats::age(newest, serving.clock.now()),
    })
}

/// When the newest of the last arrivals was made.
fn newest(serving: &Serving) -> Result<Option<Timestamp>, StoreError> {
    let snapshot = serving.store.read()?;
    let last = snapshot.last_seq()?.0;
    let mut newest = None;
    for seq in (last.saturating_sub(LAST_ARRIVALS)..=last).rev() {
        newest = newest.max(snapshot.get(Seq(seq))?.map(|event| event.created_at()));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_the_operators_or_that_of_the_request_and_never_more_than_a_host() {
        let mut settings = Settings::default();
        let told = |settings: &Settings, host: &'static str, scheme: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static(host));
            if let Some(scheme) = scheme {
                headers.insert("x-forwarded-proto", HeaderValue::from_static(scheme));
            }
            address(settings, &headers, "/nostr")
        };
        assert_eq!(told(&settings, "relay.example.com:7777", None), "ws://relay.example.com:7777/nostr");
        assert_eq!(told(&settings, "[::1]:7777", Some("https")), "wss://[::1]:7777/nostr");
        for host in ["", "a b", "u:p@evil.example", "evil.example/x?", "evil.example#", "a,b", "<b>"] {
            assert_eq!(told(&settings, host, None), "ws://localhost/nostr", "{host}");
        }
        settings.auth.urls = RelayUrl::parse("wss://relay.example.com").into_iter().collect();
        assert_eq!(told(&settings, "10.0.0.1", None), "wss://relay.example.com");
    }
}
