//! NIP-11's `limitation` object, built from the settings that are enforced, so the two cannot disagree.

use serde_json::{Map, Value, json};

use super::limits::Tier;
use super::settings::{Audience, Settings};
use crate::nostr::SubscriptionId;

/// NIP-11's `limitation` object: the limits that `settings` enforce for clients of `tier`.
#[must_use]
pub fn limitation(settings: &Settings, tier: Tier) -> Map<String, Value> {
    let (limits, own) = (&settings.limits, settings.tiers.get(tier));
    let (auth, access) = (&settings.auth, &settings.access);
    let is_restricted = auth.write != Audience::Anyone || access.allows_members_only() || settings.membership.is_on();
    let fields = [
        ("max_message_length", json!(limits.max_message_length)),
        ("max_subscriptions", json!(own.max_subscriptions)),
        ("max_limit", json!(own.max_limit)),
        ("max_subid_length", json!(SubscriptionId::MAX_CHARS)),
        ("max_event_tags", json!(limits.max_event_tags)),
        ("max_content_length", json!(limits.max_content_length)),
        ("min_pow_difficulty", json!(limits.min_pow_difficulty)),
        ("auth_required", json!(auth.read != Audience::Anyone && auth.write != Audience::Anyone)),
        ("payment_required", json!(settings.info.payment_required)),
        ("restricted_writes", json!(is_restricted)),
        ("created_at_upper_limit", json!(limits.created_at_upper_limit)),
        ("default_limit", json!(limits.default_limit.min(own.max_limit))),
    ];
    let mut object: Map<String, Value> = fields.into_iter().map(|(key, value)| (key.into(), value)).collect();
    if limits.created_at_lower_limit > 0 {
        object.insert("created_at_lower_limit".into(), json!(limits.created_at_lower_limit));
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nip_11_advertises_what_is_enforced() {
        let mut settings = Settings::default();
        settings.auth.write = Audience::Listed;
        let mut expected = json!({
            "max_message_length": 1_048_576, "max_subscriptions": 100, "max_limit": 1000, "max_subid_length": 64,
            "max_event_tags": 15_000, "max_content_length": 524_288, "min_pow_difficulty": 0,
            "auth_required": false, "payment_required": false, "restricted_writes": true,
            "created_at_upper_limit": 900, "default_limit": 500,
        });
        assert_eq!(Value::Object(limitation(&settings, Tier::Anonymous)), expected);
        settings.limits.created_at_lower_limit = 7;
        expected["created_at_lower_limit"] = json!(7);
        assert_eq!(Value::Object(limitation(&settings, Tier::Anonymous)), expected);
    }
}
