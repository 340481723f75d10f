//! Opens, feeds and closes the negentropy sessions of one connection. The `read` threads do the work.
//!
//! It counts the sessions of its connection and never looks inside one.

use super::Engine;
use crate::ledger::Hold;
use crate::nostr::{Filter, Prefix, Reason, RelayMessage, SubscriptionId};
use crate::pipeline::Reconciliation;
use crate::policy::Settings;

impl Engine {
    pub(super) fn neg_open(
        &mut self,
        id: SubscriptionId,
        filter: Filter,
        message: Vec<u8>,
        memory: Hold,
        settings: &Settings,
    ) {
        // Earlier replies must go out before the answer to this message.
        self.send_replies();
        let pipeline = &self.context.front.pipeline;
        let options = pipeline.reading.sessions.options();
        // A failed session is kept while its NEG-ERR may still be queued: a new session of that id must not get it.
        if self.client.outbox.is_empty() || self.negentropy.len() >= options.max_sessions_per_connection {
            self.negentropy.retain(|_, session| !session.is_ended());
        }
        let opened = if !options.enabled {
            Err(Reason::new(Prefix::Unsupported, "negentropy is off at this relay"))
        } else if self.negentropy.len() >= options.max_sessions_per_connection {
            Err(Reason::new(Prefix::RateLimited, "too many open sessions; close some first"))
        } else {
            let address = settings.rates.group(self.session.peer().address);
            Reconciliation::open(&pipeline.reading, &self.client, address, id.clone(), filter, message, memory)
        };
        match opened {
            Ok(session) => {
                self.context.watch(&session);
                self.negentropy.insert(id, session);
            }
            Err(reason) => self.neg_err(&id, reason),
        }
    }

    pub(super) fn neg_message(&mut self, id: &SubscriptionId, message: Vec<u8>, memory: Hold) {
        self.send_replies();
        let unknown = || Err(Reason::new(Prefix::Closed, "no such session is open"));
        let taken = self.negentropy.get(id).map_or_else(unknown, |session| session.message(message, memory));
        if let Err(reason) = taken {
            self.neg_close(id);
            self.neg_err(id, reason);
        }
    }

    pub(super) fn neg_close(&mut self, id: &SubscriptionId) {
        if let Some(session) = self.negentropy.remove(id) {
            session.end();
        }
    }

    pub(super) fn neg_err(&mut self, id: &SubscriptionId, reason: Reason) {
        self.reply(&RelayMessage::NegErr { sub: id.as_str().into(), reason, max_records: None });
    }
}
