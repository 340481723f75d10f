//! The landing page: the operator's own page, if there is a template, otherwise the relay's.
//!
//! It decides what the page may load; what the page says is in `parts`.

use super::csp::{self, Page, hash, origin};
use super::parts::{LandingPage, Parts, SCRIPT, STYLE};
use super::template::Template;

/// The page.
#[must_use]
pub fn render(page: &LandingPage<'_>) -> Page {
    let info = page.settings.moderation.info(&page.settings.info);
    // The configuration was checked with the same function.
    let template = Template::parse(&info.template_file.text).ok().filter(|_| !info.template_file.path.is_empty());
    let parts = Parts { page, info: &info };
    let own: Vec<String> = template.iter().flat_map(|template| template.styles().iter().cloned()).collect();
    let html = match template {
        Some(template) => template.render(&parts),
        None => parts.document().into_string(),
    };
    let styles: Vec<String> = [hash(STYLE)].into_iter().chain(own).collect();
    let mut pictures: Vec<String> = [&info.icon, &info.banner].into_iter().filter_map(|url| origin(url)).collect();
    pictures.dedup();
    Page { html, policy: csp::policy(&[hash(SCRIPT)], &styles, &pictures) }
}
