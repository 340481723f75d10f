//! The parts of the landing page: what a person sees who opens the relay's address in a browser.
//!
//! They work without the script, which copies the address and keeps the figures fresh.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::accepted::{self, Section};
use super::csp::origin;
use super::words::{ago, bytes, count, counted, duration, kinds};
use super::{nips, qr};
use crate::nostr::Timestamp;
use crate::nostr::bech32::npub;
use crate::policy::Settings;
use crate::policy::info::{Fee, Info};

pub(super) const STYLE: &str = include_str!("landing_page.css");
pub(super) const SCRIPT: &str = include_str!("landing_page.js");

/// What the page is about.
#[derive(Clone, Copy, Debug)]
pub struct LandingPage<'a> {
    /// The settings in force.
    pub settings: &'a Settings,
    /// The NIPs that the relay advertises, in order.
    pub nips: &'a [u32],
    /// Where clients connect: a `ws://` or `wss://` URL.
    pub address: &'a str,
    /// What is told if `info.public_stats` is on.
    pub stats: Option<Stats>,
    /// Whether the storage is full, so that events are refused.
    pub is_full: bool,
}

/// How much the relay holds, and how fresh it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Events held.
    pub events: u64,
    /// Bytes that they take.
    pub bytes: u64,
    /// Clients connected.
    pub clients: u64,
    /// Seconds since the newest event was made; `None` if there is no event.
    pub newest_s: Option<u64>,
}

impl Stats {
    /// Seconds from `newest` to `now`; an event from the future counts as made now.
    #[must_use]
    pub fn age(newest: Option<Timestamp>, now: Timestamp) -> Option<u64> {
        newest.map(|newest| now.0.saturating_sub(newest.0))
    }
}

/// The parts of the page, which a template names one by one.
pub(super) struct Parts<'a> {
    pub page: &'a LandingPage<'a>,
    pub info: &'a Info,
}

/// A URL that may be a link; nothing else is made one.
fn link(url: &str) -> Option<&str> {
    let scheme = url.split_once(':')?.0.to_ascii_lowercase();
    ["http", "https", "mailto", "nostr"].contains(&&*scheme).then_some(url)
}

/// A text, as a link if it is a URL.
fn linked(text: &str) -> Markup {
    html! {
        @match link(text) {
            Some(url) => a href=(url) rel="noreferrer" dir="auto" { (text.strip_prefix("mailto:").unwrap_or(text)) },
            None => span dir="auto" { (text) },
        }
    }
}

fn section(id: &str, title: &str, body: &Markup) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) }
            (body)
        }
    }
}

impl Parts<'_> {
    /// The whole page.
    pub fn document(&self) -> Markup {
        html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="description" content=(self.info.description);
                    title { (self.info.name) }
                    link rel="icon" href=(origin(&self.info.icon).map_or("data:,", |_| &self.info.icon));
                    (self.style())
                }
                body {
                    (self.header())
                    main {
                        div.side { (self.connect()) (self.stats()) }
                        div.main { (self.accepted()) (self.limits()) (self.fees()) (self.nips()) }
                    }
                    (self.footer())
                    (self.script())
                }
            }
        }
    }

    pub fn style(&self) -> Markup {
        html! { style { (PreEscaped(STYLE)) } }
    }

    pub fn script(&self) -> Markup {
        html! { script { (PreEscaped(SCRIPT)) } }
    }

    /// The key of the operator, as people write it.
    pub fn npub(&self) -> String {
        self.info.pubkey.0.as_ref().map(npub).unwrap_or_default()
    }

    fn header(&self) -> Markup {
        let initial: String = self.info.name.trim().chars().take(1).flat_map(char::to_uppercase).collect();
        html! {
            header {
                // What does not load leaves what is behind it.
                div.banner { @if origin(&self.info.banner).is_some() { img src=(self.info.banner) alt=""; } }
                div.who {
                    div.icon aria-hidden="true" {
                        (initial)
                        @if origin(&self.info.icon).is_some() { img src=(self.info.icon) alt=""; }
                    }
                    div {
                        h1 dir="auto" { (self.info.name) }
                        @if !self.info.description.is_empty() { p.about dir="auto" { (self.info.description) } }
                        (self.operator())
                    }
                }
            }
        }
    }

    fn operator(&self) -> Markup {
        let npub = self.npub();
        html! {
            @if !npub.is_empty() || !self.info.contact.is_empty() {
                p.operator {
                    "Operator: "
                    @if !npub.is_empty() { a href={ "nostr:" (npub) } { (npub) } }
                    @if !npub.is_empty() && !self.info.contact.is_empty() { ", " }
                    @if !self.info.contact.is_empty() { (linked(&self.info.contact)) }
                }
            }
        }
    }

    pub fn connect(&self) -> Markup {
        let address = self.page.address;
        let label = format!("QR code of {address}");
        section(
            "connect",
            "Connect",
            &html! {
                p { "This is a Nostr relay. Add its address in your Nostr client:" }
                p.address {
                    code #address dir="ltr" { (address) }
                    button #copy type="button" { "Copy" }
                }
                p #copied role="status" {}
                @if let Some(code) = qr::svg(address, &label) { (code) }
            },
        )
    }

    pub fn stats(&self) -> Markup {
        let is_full = self.page.is_full;
        html! {
            @if self.page.stats.is_some() || is_full {
                section #stats aria-labelledby="now" {
                    h2 #now { "Right now" }
                    @if is_full { p.warning { "The storage is full: the relay serves what it has, and takes no events." } }
                    @if let Some(stats) = self.page.stats {
                        dl {
                            @for (what, value) in figures(stats) { div { dt { (what) } dd { (value) } } }
                        }
                        p #stale role="status" {}
                    }
                }
            }
        }
    }

    pub fn accepted(&self) -> Markup {
        section(
            "accepted",
            "What it accepts",
            &html! {
                @for Section { title, lines } in accepted::sections(self.page.settings) {
                    h3 { (title) }
                    ul { @for line in lines { li { (line) } } }
                }
            },
        )
    }

    pub fn limits(&self) -> Markup {
        let table = accepted::limits(self.page.settings);
        section(
            "limits",
            "Limits of a connection",
            &html! {
                div.scroll role="group" aria-labelledby="limits" tabindex="0" {
                    table {
                        thead { tr { td {} @for head in &table.heads { th scope="col" { (head) } } } }
                        tbody {
                            @for (what, values) in &table.rows {
                                tr { th scope="row" { (what) } @for value in values { td { (value) } } }
                            }
                        }
                    }
                }
            },
        )
    }

    pub fn fees(&self) -> Markup {
        let fees = &self.info.fees;
        let groups =
            [("Admission", &fees.admission), ("Subscription", &fees.subscription), ("Events", &fees.publication)];
        let costs = groups.iter().any(|(_, fees)| !fees.is_empty());
        html! {
            @if costs || self.info.payment_required {
                (section("fees", "Fees", &html! {
                    @if !costs { p { "The relay asks for payment." } }
                    ul { @for (name, fees) in groups { @for one in fees { li { (name) ": " (fee(one)) } } } }
                    @if let Some(url) = origin(&self.info.payments_url).map(|_| &self.info.payments_url) {
                        p { a href=(url) rel="noreferrer" { "Pay here" } }
                    }
                }))
            }
        }
    }

    pub fn nips(&self) -> Markup {
        section(
            "nips",
            "Supported NIPs",
            &html! {
                ul.nips {
                    @for nip in self.page.nips {
                        li { a href=(nips::url(*nip)) rel="noreferrer" { b { (format!("{nip:02}")) } " " (nips::title(*nip)) } }
                    }
                }
            },
        )
    }

    fn footer(&self) -> Markup {
        let web = |url: &'_ str| origin(url).is_some();
        html! {
            footer {
                @if web(&self.info.terms_of_service) {
                    a href=(self.info.terms_of_service) rel="noreferrer" { "Terms of service" } " · "
                }
                @if web(&self.info.software) { a href=(self.info.software) rel="noreferrer" { "weir" } } @else { "weir" }
                " " (env!("CARGO_PKG_VERSION"))
            }
        }
    }
}

/// What the figures are called, and what they are.
pub(super) fn figures(stats: Stats) -> Vec<(&'static str, String)> {
    let newest = stats.newest_s.map_or_else(|| "none yet".to_owned(), ago);
    vec![
        ("Events held", count(stats.events)),
        ("Their size", bytes(stats.bytes)),
        ("Newest event", newest),
        ("Clients connected", count(stats.clients)),
    ]
}

fn fee(fee: &Fee) -> String {
    let mut text = format!("{} {}", count(fee.amount), fee.unit);
    if let Some(period) = fee.period {
        text += &format!(" for {}", duration(period));
    }
    if !fee.kinds.is_empty() {
        let ranges: Vec<(u16, u16)> = fee.kinds.iter().map(|kind| (*kind, *kind)).collect();
        text += &format!(" for each event of {}", kinds(&ranges));
    }
    text
}

/// The number of events in words, for a template.
pub(super) fn events_held(stats: Stats) -> String {
    counted(stats.events, "event", "events")
}
