//! The operator's own front page: HTML with placeholders such as `{{name}}`.
//!
//! Values are escaped where they stand in. A template brings styles of its own and no scripts: the page's policy names
//! each `<style>` by its hash.

use super::csp::hash;
use super::parts::{Parts, events_held, figures};

/// What stands in for a placeholder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    Name,
    Description,
    Icon,
    Banner,
    Npub,
    Contact,
    Terms,
    Payments,
    Software,
    Version,
    Address,
    Events,
    Size,
    Newest,
    Clients,
    // Parts of the relay's own page.
    Connect,
    Stats,
    Accepted,
    Limits,
    Fees,
    Nips,
    Style,
    Script,
}

const VALUES: [(&str, Value); 23] = [
    ("name", Value::Name),
    ("description", Value::Description),
    ("icon", Value::Icon),
    ("banner", Value::Banner),
    ("npub", Value::Npub),
    ("contact", Value::Contact),
    ("terms_of_service", Value::Terms),
    ("payments_url", Value::Payments),
    ("software", Value::Software),
    ("version", Value::Version),
    ("address", Value::Address),
    ("events", Value::Events),
    ("size", Value::Size),
    ("newest", Value::Newest),
    ("clients", Value::Clients),
    ("connect", Value::Connect),
    ("stats", Value::Stats),
    ("accepted", Value::Accepted),
    ("limits", Value::Limits),
    ("fees", Value::Fees),
    ("nips", Value::Nips),
    ("style", Value::Style),
    ("script", Value::Script),
];

/// The names of all placeholders.
pub fn placeholders() -> impl Iterator<Item = &'static str> {
    VALUES.iter().map(|(name, _)| *name)
}

/// What is wrong with a template, and in which line of it, counted from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}: {text}")]
pub struct TemplateError {
    /// The line.
    pub line: usize,
    /// What is wrong.
    pub text: String,
}

/// A template whose placeholders are known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Template {
    pieces: Vec<Piece>,
    styles: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Value(Value),
}

impl Template {
    /// The longest template, in bytes. It is rendered once a second at most.
    pub const MAX_BYTES: usize = 256 << 10;

    /// Reads a template.
    ///
    /// # Errors
    /// At its first placeholder that is unknown or not closed, at a script, and at a placeholder within a style.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > Self::MAX_BYTES {
            let text = format!("the page has {} bytes, more than {}", text.len(), Self::MAX_BYTES);
            return Err(TemplateError { line: 1, text });
        }
        let styles = styles(text)?;
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let at = text.len() - after.len();
            let Some((name, following)) = after.split_once("}}") else {
                return Err(error(text, at, "{{ is not closed by }}".into()));
            };
            let found = VALUES.iter().find(|(known, _)| *known == name.trim());
            let Some((_, value)) = found else {
                let names: Vec<&str> = placeholders().collect();
                let name: String = name.trim().chars().take(40).collect();
                let text_ = format!("{{{{{name}}}}} is not a placeholder; there are {}", names.join(", "));
                return Err(error(text, at, text_));
            };
            pieces.extend([Piece::Text(before.into()), Piece::Value(*value)]);
            rest = following;
        }
        pieces.push(Piece::Text(rest.into()));
        Ok(Self { pieces, styles })
    }

    /// What the page's policy calls the template's own styles.
    #[must_use]
    pub fn styles(&self) -> &[String] {
        &self.styles
    }

    /// The page.
    pub(super) fn render(&self, parts: &Parts<'_>) -> String {
        let pieces = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Value(value) => value.render(parts),
        });
        pieces.collect()
    }
}

fn error(template: &str, at: usize, text: String) -> TemplateError {
    TemplateError { line: template[..at].matches('\n').count() + 1, text }
}

/// The hashes of the template's own styles.
fn styles(template: &str) -> Result<Vec<String>, TemplateError> {
    // Bytes keep their places: only ASCII changes.
    let lower = template.to_ascii_lowercase();
    if let Some(at) = lower.find("<script") {
        let text = "a page brings no scripts of its own; {{script}} stands for the relay's".into();
        return Err(error(template, at, text));
    }
    let (mut hashes, mut from) = (Vec::new(), 0);
    while let Some(at) = lower[from..].find("<style").map(|at| from + at) {
        let begin = lower[at..].find('>').map(|end| at + end + 1);
        let inner = begin.and_then(|begin| Some((begin, begin + lower[begin..].find("</style")?)));
        let Some((begin, end)) = inner else { return Err(error(template, at, "<style> is not closed".into())) };
        let style = &template[begin..end];
        if let Some(inside) = style.find("{{") {
            return Err(error(template, begin + inside, "a placeholder cannot stand within <style>".into()));
        }
        // As a browser reads it.
        hashes.push(hash(&style.replace("\r\n", "\n")));
        from = end;
    }
    Ok(hashes)
}

impl Value {
    fn render(self, parts: &Parts<'_>) -> String {
        let (info, stats) = (parts.info, parts.page.stats);
        let figure = |place: usize| stats.map(|stats| figures(stats).swap_remove(place).1).unwrap_or_default();
        let text = match self {
            Self::Name => info.name.clone(),
            Self::Description => info.description.clone(),
            Self::Icon => info.icon.clone(),
            Self::Banner => info.banner.clone(),
            Self::Npub => parts.npub(),
            Self::Contact => info.contact.clone(),
            Self::Terms => info.terms_of_service.clone(),
            Self::Payments => info.payments_url.clone(),
            Self::Software => info.software.clone(),
            Self::Version => env!("CARGO_PKG_VERSION").into(),
            Self::Address => parts.page.address.into(),
            Self::Events => stats.map(events_held).unwrap_or_default(),
            Self::Size => figure(1),
            Self::Newest => figure(2),
            Self::Clients => figure(3),
            Self::Connect => return parts.connect().into_string(),
            Self::Stats => return parts.stats().into_string(),
            Self::Accepted => return parts.accepted().into_string(),
            Self::Limits => return parts.limits().into_string(),
            Self::Fees => return parts.fees().into_string(),
            Self::Nips => return parts.nips().into_string(),
            Self::Style => return parts.style().into_string(),
            Self::Script => return parts.script().into_string(),
        };
        maud::html! { (text) }.into_string()
    }
}
