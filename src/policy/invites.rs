//! Which queries ask for an invite (NIP-43, kind 28935), and whose.

use super::peer::Peer;
use super::settings::Settings;
use crate::nostr::{Filter, Kind, Prefix, Pubkey, Reason, Timestamp};

/// The member whose invite a query asks for, by its kind and by nothing that an invite would not match.
///
/// # Errors
/// `auth-required:` or `restricted:` when it asks for nothing else, and the client is no member.
pub fn check_invite(
    settings: &Settings,
    peer: &Peer,
    filters: &[Filter],
    now: Timestamp,
) -> Result<Option<Pubkey>, Reason> {
    let membership = &settings.membership;
    let Some(own) = membership.own_key().filter(|_| membership.members_invite) else { return Ok(None) };
    let asks = |filter: &Filter| {
        filter.kinds.as_ref().is_some_and(|kinds| kinds.contains(&Kind::INVITE))
            && filter.authors.as_ref().is_none_or(|authors| authors.contains(&own))
            && filter.ids.is_none()
            && filter.tags.is_empty()
            && filter.limit != Some(0)
            && filter.matches_time(now)
    };
    if !filters.iter().any(asks) {
        return Ok(None);
    }
    let is_member = |key: &&Pubkey| settings.access.is_member(key, &settings.moderation);
    let member = peer.keys().iter().find(is_member).copied();
    let only = |filter: &Filter| filter.kinds.as_ref().is_some_and(|kinds| kinds.len() == 1);
    if member.is_some() || !filters.iter().all(only) {
        return Ok(member);
    }
    let prefix = if peer.is_authenticated() { Prefix::Restricted } else { Prefix::AuthRequired };
    Err(Reason::new(prefix, "only members of this relay get invites"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::testing::{AUTHOR, NOW, filter};
    use super::super::{Membership, Moderation, Ruling, SecretFile};
    use super::*;
    use crate::schnorr::SigningKey;

    #[test]
    fn only_members_get_invites_and_others_are_told_when_they_ask_for_nothing_else() {
        let key_file = SecretFile { signer: SigningKey::new([7; 32]).map(Arc::new), ..SecretFile::default() };
        let membership = Membership { key_file, members_invite: true, ..Membership::default() };
        let mut settings = Settings { membership, ..Settings::default() };
        let (invite, both) = (filter(r#"{"kinds":[28935]}"#), filter(r#"{"kinds":[1,28935]}"#));
        let mut peer = Peer::new([192, 0, 2, 1].into());
        let said = |settings: &Settings, peer: &Peer, filter: &Filter| {
            let asked = check_invite(settings, peer, std::slice::from_ref(filter), Timestamp(NOW));
            asked.map_err(|reason| reason.to_string())
        };
        let text = "only members of this relay get invites";
        assert_eq!(said(&settings, &peer, &invite), Err(format!("auth-required: {text}")));
        assert_eq!(said(&settings, &peer, &both), Ok(None));
        peer.authenticate(Pubkey(AUTHOR)).expect("room");
        assert_eq!(said(&settings, &peer, &invite), Err(format!("restricted: {text}")));
        let mut moderation = Moderation::default();
        moderation.put(Ruling::Key(Pubkey(AUTHOR), Some(true)));
        settings.moderation = Arc::new(moderation);
        let invited = Ok(Some(Pubkey(AUTHOR)));
        assert_eq!([&invite, &both].map(|filter| said(&settings, &peer, filter)), [invited.clone(), invited]);
        let others = ["{}", r##"{"kinds":[28935],"#t":["x"]}"##, r#"{"kinds":[28935],"until":5}"#];
        for other in others {
            assert_eq!(said(&settings, &peer, &filter(other)), Ok(None), "{other}");
        }
        settings.membership.members_invite = false;
        assert_eq!(said(&settings, &peer, &invite), Ok(None));
    }
}
