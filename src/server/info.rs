//! The relay information document (NIP-11), rendered from the settings that are enforced, and a greeting for
//! whoever asks for neither it nor a page.
//!
//! Nothing that is stated here can disagree with what the relay does.

use serde_json::{Map, Value, json};

use crate::policy::info::{Fee, Info};
use crate::policy::{Settings, Tier, limitation};

/// The NIPs that this relay implements under any settings.
const ALWAYS: [u32; 13] = [1, 2, 4, 9, 11, 13, 17, 40, 42, 45, 59, 62, 70];

/// The NIP for membership.
const MEMBERSHIP: u32 = 43;

/// The NIP for hints in EOSE about completeness.
const EOSE_HINTS: u32 = 67;

/// The NIP for negentropy sync.
const NEGENTROPY: u32 = 77;

/// The NIP for management over HTTP.
const MANAGEMENT: u32 = 86;

/// The document, as JSON text.
#[must_use]
pub fn document(settings: &Settings, negentropy: bool) -> String {
    let info = &settings.moderation.info(&settings.info);
    let mut document = Map::new();
    let texts = [
        ("name", &info.name),
        ("description", &info.description),
        ("banner", &info.banner),
        ("icon", &info.icon),
        ("contact", &info.contact),
        ("terms_of_service", &info.terms_of_service),
        ("payments_url", &info.payments_url),
        ("software", &info.software),
    ];
    for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        document.insert(key.into(), json!(text));
    }
    let own_key = settings.membership.own_key().or(info.self_key.0);
    for (key, value) in [("pubkey", info.pubkey.0), ("self", own_key)] {
        if let Some(value) = value {
            document.insert(key.into(), json!(value.to_string()));
        }
    }
    document.insert("supported_nips".into(), json!(nips(settings, negentropy)));
    document.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    document.insert("limitation".into(), Value::Object(limitation(settings, Tier::Anonymous)));
    if let Some(fees) = fees(info) {
        document.insert("fees".into(), fees);
    }
    Value::Object(document).to_string()
}

/// The NIPs that are advertised, in order.
#[must_use]
pub fn nips(settings: &Settings, negentropy: bool) -> Vec<u32> {
    let mut nips = ALWAYS.to_vec();
    nips.extend(settings.membership.is_on().then_some(MEMBERSHIP));
    nips.extend(negentropy.then_some(NEGENTROPY));
    nips.extend(settings.limits.eose_hints.then_some(EOSE_HINTS));
    nips.extend((!settings.admins.is_empty()).then_some(MANAGEMENT));
    nips.sort_unstable();
    nips
}

fn fees(info: &Info) -> Option<Value> {
    let groups = [
        ("admission", &info.fees.admission),
        ("subscription", &info.fees.subscription),
        ("publication", &info.fees.publication),
    ];
    let lists: Map<String, Value> = groups
        .into_iter()
        .filter(|(_, fees)| !fees.is_empty())
        .map(|(name, fees)| (name.into(), fees.iter().map(fee).collect()))
        .collect();
    (!lists.is_empty()).then_some(Value::Object(lists))
}

fn fee(fee: &Fee) -> Value {
    let mut value = json!({ "amount": fee.amount, "unit": fee.unit });
    if let Some(period) = fee.period {
        value["period"] = json!(period);
    }
    if !fee.kinds.is_empty() {
        value["kinds"] = json!(fee.kinds);
    }
    value
}

/// The text for whoever asks for neither this document nor a page, such as `curl`.
#[must_use]
pub fn greeting(settings: &Settings) -> String {
    let Info { name, description, contact, .. } = &settings.moderation.info(&settings.info);
    let mut text = format!("{name}\n\n");
    if !description.is_empty() {
        text += &format!("{description}\n\n");
    }
    text += "This is a Nostr relay. Connect to it with a Nostr client.\n";
    if !contact.is_empty() {
        text += &format!("Contact: {contact}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pages::nips::title;

    #[test]
    fn every_nip_that_can_be_advertised_has_a_title_on_the_landing_page() {
        let all = ALWAYS.iter().chain(&[MEMBERSHIP, EOSE_HINTS, NEGENTROPY, MANAGEMENT]);
        let untitled: Vec<_> = all.filter(|nip| title(**nip).is_empty()).collect();
        assert_eq!(untitled, [&0; 0]);
    }
}
