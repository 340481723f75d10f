//! The shell of the dashboard, and its files. What it shows is data, which its script writes into the page as text.

use maud::{DOCTYPE, html};

use super::csp::{Page, policy};

/// A file of the dashboard.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct File {
    /// Its media type.
    pub media_type: &'static str,
    /// Its text.
    pub text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [(&str, &str, &str); 6] = [
    ("/dashboard.css", "text/css; charset=utf-8", include_str!("dashboard/dashboard.css")),
    ("/main.js", SCRIPT, include_str!("dashboard/main.js")),
    ("/dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("/plot.js", SCRIPT, include_str!("dashboard/plot.js")),
    ("/overview.js", SCRIPT, include_str!("dashboard/overview.js")),
    ("/acts.js", SCRIPT, include_str!("dashboard/acts.js")),
];

/// A file by its path below the dashboard's.
#[must_use]
pub fn file(path: &str) -> Option<File> {
    let (_, media_type, text) = FILES.into_iter().find(|(name, ..)| *name == path)?;
    Some(File { media_type, text })
}

/// The page of the relay `name` at `path`.
#[must_use]
pub fn render(name: &str, path: &str) -> Page {
    let html = html! {
        (DOCTYPE)
        html lang="en" data-path=(path) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Dashboard: " (name) }
                link rel="icon" href="data:,";
                link rel="stylesheet" href={ (path) "/dashboard.css" };
                script type="module" src={ (path) "/main.js" } {}
            }
            body {
                header {
                    h1 { span dir="auto" { (name) } " dashboard" }
                    p #who {}
                }
                p #state role="status" {}
                nav #tabs aria-label="Parts of the dashboard" {}
                main #main tabindex="-1" { noscript { p { "The dashboard needs JavaScript. `weir top` and `weir manage` do not." } } }
            }
        }
    }
    .into_string();
    let own = ["'self'".to_owned()];
    Page { html, policy: policy(&own, &own, &[]) }
}
