//! Tests of what the pages say, and of what they never run.

use super::landing_page::render;
use super::parts::{SCRIPT, STYLE};
use super::*;
use crate::nostr::Pubkey;
use crate::policy::info::{Fee, TemplateFile};
use crate::policy::{Audience, KindSet, OptionalKey, Settings};

/// Texts that try to leave the place where they stand.
const HOSTILE: [&str; 10] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</title><script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "<!--",
    "]]><svg/onload=alert(1)>",
    "{{script}}",
    "&lt;script&gt;",
    "\u{202e}\u{2066}<b>\0",
];

fn page(settings: &Settings) -> Page {
    let address = "wss://relay.example.com/";
    render(&LandingPage { settings, nips: &[1, 11, 86], address, stats: None, is_full: false })
}

/// The tags of a page, without texts and scripts.
fn tags(html: &str) -> Vec<String> {
    let mut rest = html.replace(SCRIPT, "").replace(STYLE, "");
    let mut tags = Vec::new();
    while let Some(at) = rest.find('<') {
        rest = rest.split_off(at);
        // Quoted values hold no `<` or `>` that are not escaped.
        let end = rest.find('>').expect("each tag is closed");
        tags.push(rest.drain(..=end).collect());
    }
    tags
}

fn hostile(text: &str) -> Settings {
    let mut settings = Settings::default();
    let info = &mut settings.info;
    for field in [
        &mut info.name,
        &mut info.description,
        &mut info.contact,
        &mut info.terms_of_service,
        &mut info.payments_url,
        &mut info.software,
        &mut info.icon,
        &mut info.banner,
    ] {
        *field = text.into();
    }
    info.payment_required = true;
    info.fees.admission.push(Fee { amount: 1, unit: text.into(), period: None, kinds: Vec::new() });
    settings
}

#[test]
fn hostile_texts_come_out_as_texts_in_the_page_and_in_a_template() {
    let own = "<!doctype html><style>p{}</style><p title=\"{{name}}\">{{description}}</p><a href=\"{{contact}}\">x</a>\
               {{connect}}{{accepted}}{{fees}}";
    for with_template in [false, true] {
        let mut plain = hostile("harmless");
        let mut expected = Vec::new();
        for text in ["harmless"].into_iter().chain(HOSTILE) {
            let mut settings = hostile(text);
            for settings in [&mut plain, &mut settings] {
                if with_template {
                    settings.info.template_file = TemplateFile { path: "own.html".into(), text: own.into() };
                }
            }
            let shown = page(&settings);
            let without_values = |html: &str| -> Vec<String> {
                // Names of elements and attributes; values may differ.
                let names = |tag: &String| tag.split('"').step_by(2).collect::<Vec<_>>().join("");
                tags(html).iter().map(names).collect()
            };
            if expected.is_empty() {
                expected = without_values(&page(&plain).html);
            }
            assert_eq!(without_values(&shown.html), expected, "{text}");
            assert_eq!(shown.policy, page(&plain).policy, "{text}");
        }
    }
}

#[test]
fn a_picture_that_is_no_url_of_the_web_is_left_out_and_others_are_allowed_by_their_origin() {
    let mut settings = hostile("javascript:alert(1)");
    let Page { html, policy } = page(&settings);
    assert!(!html.contains("href=\"javascript") && !html.contains("<img"), "{html}");
    assert!(policy.contains("img-src data:;"), "{policy}");
    settings.info.icon = "https://icons.example/a.png".into();
    settings.info.banner = "https://banners.example/b.png".into();
    let Page { html, policy } = page(&settings);
    assert_eq!(html.matches("<img").count(), 2);
    assert!(policy.contains("img-src data: https://icons.example https://banners.example;"), "{policy}");
}

#[test]
fn the_policy_names_the_scripts_and_styles_of_the_page_by_what_they_hold() {
    let Page { html, policy } = page(&Settings::default());
    for (tag, text) in [("script", SCRIPT), ("style", STYLE)] {
        assert_eq!(html.matches(&format!("<{tag}")).count(), 1);
        assert!(html.contains(&format!("<{tag}>{text}</{tag}>")));
        assert!(policy.contains(&format!("{tag}-src {};", csp::hash(text))), "{policy}");
    }
    assert!(!html.contains(" style=") && !html.contains(" onclick="));
}

fn said(settings: &Settings) -> Vec<String> {
    accepted::sections(settings).into_iter().flat_map(|section| section.lines).collect()
}

#[test]
fn a_relay_with_defaults_says_what_it_accepts() {
    assert_eq!(
        said(&Settings::default()),
        [
            "Anyone may read.",
            "Events of kinds 4, 1059 and 21059 are shown only to their author and recipients, who prove their key.",
            "Anyone may publish.",
            "Events of every kind are accepted, except kinds 13, 22242, 24242 and 27235.",
            "An event may have 524,288 characters of content and 15,000 tags.",
            "An event may have any age, and be dated up to 15 minutes in the future.",
            "Protected events (NIP-70) are accepted from their authors, who prove their key.",
            "Everything is kept.",
        ]
    );
}

#[test]
fn each_setting_that_is_enforced_changes_what_is_said() {
    let says = |change: &dyn Fn(&mut Settings), line: &str| {
        let mut settings = Settings::default();
        change(&mut settings);
        assert!(said(&settings).contains(&line.to_owned()), "{line}: {:#?}", said(&settings));
    };
    says(&|s| s.auth.read = Audience::Authenticated, "Clients read once they have proven a key (NIP-42).");
    says(
        &|s| s.auth.write = Audience::Listed,
        "Clients publish once they have proven a key that the operator has listed (NIP-42).",
    );
    says(
        &|s| s.access.allow_pubkeys = [Pubkey([7; 32])].into_iter().collect(),
        "Authors whom the operator has listed may publish.",
    );
    says(
        &|s| s.access.allow_kinds = KindSet::of(&[0, 1, 3]),
        "Events of kinds 0–1, 3 and 62 are accepted, and no others.",
    );
    says(&|s| s.limits.min_pow_difficulty = 20, {
        "An id must have 20 leading zero bits (NIP-13), and commit to as many."
    });
    says(&|s| s.limits.created_at_lower_limit = 86_400, {
        "An event may be up to 1 day old, and be dated up to 15 minutes in the future."
    });
    says(&|s| s.limits.max_event_tags = 1, "An event may have 524,288 characters of content and 1 tag.");
    says(&|s| s.policy.newcomers.period_s = 86_400, {
        "A key that is new here may publish 30 events an hour in its first 1 day."
    });
    says(&|s| s.plugin.command = "judge".into(), "A program of the operator’s has the last word on each event.");
    let rules = r#"[{"kinds":[0,3],"keep":"forever"},{"kinds":[7],"max_age":"90d","max_events":10},{}]"#;
    let rules = serde_json::from_str(rules).expect("rules");
    let limits = crate::policy::RetentionLimits { max_events_per_author: 9, ..Default::default() };
    let mut settings = Settings { retention: crate::policy::Retention::new(rules, limits), ..Settings::default() };
    settings.access.protected_events = false;
    assert_eq!(
        said(&settings)[6..],
        [
            "Protected events (NIP-70) are not accepted.",
            "Kinds 0 and 3: forever.",
            "Kind 7: for 90 days, the newest 10.",
            "Other events: as long as there is room.",
            "Of one author, at most 9 events besides those that are kept forever.",
        ]
    );
}

#[test]
fn the_table_of_limits_has_a_column_for_each_tier_that_somebody_can_be_in() {
    let mut settings = Settings::default();
    let table = accepted::limits(&settings);
    assert_eq!(table.heads, ["Without a key", "With a proven key"]);
    assert_eq!(
        table.rows[6],
        ("Events published in a second, and at once", vec!["50, 10,000".into(), "100, 20,000".into()])
    );
    settings.access.listed_pubkeys = [Pubkey([7; 32])].into_iter().collect();
    let table = accepted::limits(&settings);
    assert_eq!(table.heads[2], "Listed by the operator");
    assert!(table.rows.iter().all(|(_, values)| values.len() == 3));
    assert_eq!(table.rows[6].1[2], "no limit");
}

#[test]
fn the_operator_is_told_as_an_npub_and_a_name_in_arabic_keeps_its_direction() {
    let mut settings = Settings::default();
    settings.info.name = "مرحل".into();
    settings.info.pubkey = OptionalKey(Some(Pubkey([7; 32])));
    settings.info.contact = "mailto:admin@example.com".into();
    let html = page(&settings).html;
    assert!(
        html.contains(" href=\"mailto:admin@example.com\" rel=\"noreferrer\" dir=\"auto\">admin@example.com</a>"),
        "{html}"
    );
    assert!(html.contains("<h1 dir=\"auto\">مرحل</h1>"), "{html}");
    assert!(html.contains("href=\"nostr:npub1"), "{html}");
    assert!(html.contains("aria-label=\"QR code of wss://relay.example.com/\""), "{html}");
}

#[test]
fn an_empty_relay_and_a_full_one_say_so() {
    let settings = Settings::default();
    let page = |stats, is_full| {
        let address = "ws://localhost:7777/";
        render(&LandingPage { settings: &settings, nips: &[], address, stats, is_full }).html
    };
    assert!(!page(None, false).contains("id=\"stats\""));
    let empty = page(Some(Stats::default()), false);
    assert!(empty.contains("<dt>Events held</dt><dd>0</dd>") && empty.contains("<dd>none yet</dd>"), "{empty}");
    let full = page(Some(Stats { events: 1_234_567, newest_s: Some(61), ..Stats::default() }), true);
    assert!(full.contains("<dd>1,234,567</dd>") && full.contains("<dd>1 minute ago</dd>"), "{full}");
    assert!(full.contains("The storage is full"), "{full}");
    assert!(page(None, true).contains("The storage is full"));
}

#[test]
fn a_template_is_refused_at_the_line_of_its_first_fault() {
    let fault = |text: &str| Template::parse(text).expect_err("a fault").to_string();
    let unknown = fault("<h1>{{name}}</h1>\n<p>{{nmae}}</p>");
    assert!(unknown.starts_with("2: {{nmae}} is not a placeholder; there are name, description, "), "{unknown}");
    assert_eq!(fault("\n\n{{name"), "3: {{ is not closed by }}");
    assert_eq!(fault("<p>\n<SCRIPT>"), "2: a page brings no scripts of its own; {{script}} stands for the relay's");
    assert_eq!(fault("<style>\na{}"), "1: <style> is not closed");
    assert_eq!(fault("<style>\n{{name}}</style>"), "2: a placeholder cannot stand within <style>");
    assert!(fault(&" ".repeat(Template::MAX_BYTES + 1)).starts_with("1: the page has 262145 bytes"));
}

#[test]
fn every_placeholder_is_documented_and_stands_for_something() {
    let page = include_str!("../../docs/operating.md");
    for name in template::placeholders() {
        assert!(page.contains(&format!("`{{{{{name}}}}}`")), "{name} is in no line of docs/operating.md");
    }
    let all: String = template::placeholders().map(|name| format!("[{{{{ {name} }}}}]")).collect();
    let mut settings = hostile("https://a.example/");
    settings.info.pubkey = OptionalKey(Some(Pubkey([7; 32])));
    settings.info.template_file = TemplateFile { path: "own.html".into(), text: all.into() };
    let stats = Some(Stats { newest_s: Some(1), ..Stats::default() });
    let page = LandingPage { settings: &settings, nips: &[1], address: "ws://localhost/", stats, is_full: false };
    let html = render(&page).html;
    assert!(!html.contains("[]") && !html.contains("{{"), "{html}");
}

#[test]
fn the_styles_of_a_template_are_in_the_policy() {
    let text = "<style media=\"print\">\r\np{}\r\n</style>{{style}}<STYLE>q{}</STYLE>";
    let mut settings = Settings::default();
    settings.info.template_file = TemplateFile { path: "own.html".into(), text: text.into() };
    let Page { policy, .. } = page(&settings);
    for style in [STYLE, "\np{}\n", "q{}"] {
        assert!(policy.contains(&csp::hash(style)), "{policy}");
    }
}
