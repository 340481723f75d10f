//! The Content-Security-Policy of a page: nothing from elsewhere, and no script or style but those that it names by
//! their hash.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use url::Url;

/// A page, and the policy (Content-Security-Policy) under which a browser is to show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The HTML.
    pub html: String,
    /// The policy.
    pub policy: String,
}

/// The source that allows this inline script or style alone.
#[must_use]
pub fn hash(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text.as_bytes())))
}

/// The origin of an `http` or `https` URL, to allow a picture from there; `None` for anything else.
#[must_use]
pub fn origin(url: &str) -> Option<String> {
    let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    let origin = url.origin().ascii_serialization();
    // What would end a directive, or the list of sources, is in no origin.
    (!origin.contains([';', ',', ' ', '\''])).then_some(origin)
}

/// The policy of a page with these sources of scripts, styles and pictures. `data:` is for pictures in the page itself.
#[must_use]
pub fn policy(scripts: &[String], styles: &[String], pictures: &[String]) -> String {
    let sources = |list: &[String]| if list.is_empty() { "'none'".to_owned() } else { list.join(" ") };
    let pictures: Vec<String> = ["data:".to_owned()].into_iter().chain(pictures.iter().cloned()).collect();
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src {}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
        sources(scripts),
        sources(styles),
        sources(&pictures),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_allowed_from_its_host_alone() {
        for (url, expected) in [
            ("https://cdn.example.com/a/b.png?x=;", Some("https://cdn.example.com")),
            ("http://[2001:db8::1]:8080/a", Some("http://[2001:db8::1]:8080")),
            ("https://bücher.example/", Some("https://xn--bcher-kva.example")),
            ("https://user:pass@host.example:443/", Some("https://host.example")),
            ("https://a;script-src *//", None),
            ("data:image/png;base64,AAAA", None),
            ("javascript:alert(1)", None),
            ("//host/x", None),
            ("", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn a_policy_names_each_source_and_nothing_else() {
        let named = policy(&[hash("")], &[], &["https://a.example".into()]);
        assert_eq!(
            named,
            "default-src 'none'; script-src 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='; style-src 'none'; \
             img-src data: https://a.example; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
    }
}
