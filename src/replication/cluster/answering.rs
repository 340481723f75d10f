//! Answers what other nodes ask: one question at a time, and one comparison at a time.
//!
//! It tells every event, private ones too: whoever may use these subjects is a node of the operator's.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use super::ask::{self, Answer, Question, Status};
use super::disk::on_disk;
use super::error::{ClusterError, nats};
use super::message;
use super::shared::{Node, Shared, publisher};
use crate::negentropy::Session;
use crate::nostr::bech32::parse_pubkey;
use crate::nostr::{Filter, Kind, Pubkey, Timestamp};
use crate::pipeline::now;
use crate::replication::local::LocalSide;
use crate::replication::remembered::Remembered;
use crate::replication::window::Window;
use crate::store::StoreError;

/// Events that are compared at a time, at 41 bytes each.
pub const MAX_RECORDS: usize = 100_000;

/// How long a comparison may pause before another node may begin one.
const IDLE: Duration = Duration::from_secs(30);

/// The comparison under way.
struct PeerComparison {
    number: u64,
    with: String,
    session: Session,
    used: Instant,
}

/// Answers until the session ends.
///
/// # Errors
/// When NATS fails.
pub async fn run(shared: Arc<Shared>) -> Result<Infallible, ClusterError> {
    let node = Arc::clone(&shared.node);
    let subscribed = shared.client.subscribe(node.names.ask(&node.options.node)).await;
    let mut questions = subscribed.map_err(nats("questions cannot be subscribed to"))?;
    let (mut comparing, mut number) = (None, 0);
    while let Some(asked) = questions.next().await {
        let Some(reply) = asked.reply.clone() else { continue };
        let from = publisher(asked.headers.as_ref()).to_owned();
        let is_short = asked.payload.len() <= ask::MAX_QUESTION_BYTES;
        let question = serde_json::from_slice(&asked.payload).ok().filter(|_| is_short);
        let payload = match question {
            Some(Question::Events { ids }) => events(&node, ids, shared.max_payload()).await?,
            Some(question) => {
                number += 1;
                let answer = answer(&shared, &mut comparing, number, &from, question).await?;
                serde_json::to_vec(&answer).unwrap_or_default()
            }
            None => {
                let answer = Answer::Failed { why: "this is no question that this version knows".into() };
                serde_json::to_vec(&answer).unwrap_or_default()
            }
        };
        let answered = shared.client.publish(reply, payload.into()).await;
        answered.map_err(nats("an answer could not be sent"))?;
    }
    Err(ClusterError::Disconnected)
}

async fn answer(
    shared: &Shared,
    comparing: &mut Option<PeerComparison>,
    number: u64,
    from: &str,
    question: Question,
) -> Result<Answer, ClusterError> {
    let (node, failed) = (&shared.node, |why: &str| Answer::Failed { why: why.into() });
    let frame_bytes = ask::frame_bytes(shared.max_payload());
    Ok(match question {
        Question::Status => Answer::Status(status(node)?),
        Question::Open { since, until, kinds, authors, message } => {
            if comparing.as_ref().is_some_and(|other| other.with != from && other.used.elapsed() < IDLE) {
                return Ok(Answer::Busy);
            }
            *comparing = None;
            let Some(message) = ask::to_bytes(&message) else { return Ok(failed("the message is not hex")) };
            let authors: Option<Vec<Pubkey>> = authors.iter().map(|author| parse_pubkey(author).ok()).collect();
            let Some(authors) = authors else { return Ok(failed("an author is no key")) };
            let window = Window { since: Timestamp(since), until: Timestamp(until) };
            let opened = open(node, window, filter(&kinds, authors), frame_bytes).await?;
            let Some(session) = opened else { return Ok(Answer::Much) };
            let reply = session.reply(&message);
            *comparing = Some(PeerComparison { number, with: from.into(), session, used: Instant::now() });
            reply.map_or_else(
                |error| failed(&error.to_string()),
                |reply| Answer::Compared { session: number, message: ask::to_text(&reply) },
            )
        }
        Question::Next { session, message } => {
            let Some(open) = comparing.as_mut().filter(|open| open.number == session && open.with == from) else {
                return Ok(failed("there is no such session"));
            };
            open.used = Instant::now();
            let Some(message) = ask::to_bytes(&message) else { return Ok(failed("the message is not hex")) };
            match open.session.reply(&message) {
                Ok(reply) => Answer::Compared { session, message: ask::to_text(&reply) },
                Err(error) => failed(&error.to_string()),
            }
        }
        Question::Events { .. } => failed("events are answered elsewhere"),
    })
}

/// How this node is.
fn status(node: &Node) -> Result<Status, StoreError> {
    let arrived = node.serving.store.read()?.last_seq()?.0;
    let state = node.state();
    let (published, settled) = (state.published, state.settled);
    drop(state);
    let compared_at = node.compared_at.load(std::sync::atomic::Ordering::Relaxed);
    Ok(Status { version: env!("CARGO_PKG_VERSION").into(), arrived, published, settled, compared_at })
}

/// The events that are compared: of these kinds and authors, none meaning all.
#[must_use]
pub fn filter(kinds: &[u16], authors: Vec<Pubkey>) -> Filter {
    let kinds = (!kinds.is_empty()).then(|| kinds.iter().map(|kind| Kind(*kind)).collect());
    let authors = (!authors.is_empty()).then(|| authors.into_iter().collect());
    Filter { kinds, authors, ..Filter::default() }
}

/// What is held of a window; `None` if that is too much.
async fn open(
    node: &Arc<Node>,
    window: Window,
    filter: Filter,
    frame_bytes: usize,
) -> Result<Option<Session>, ClusterError> {
    let node = Arc::clone(node);
    let look = move || -> Result<Option<Session>, StoreError> {
        let stop = AtomicBool::new(false);
        let store = &node.serving.store;
        let look =
            LocalSide { store, filter: &filter, max_records: MAX_RECORDS, sends_up: false, now: now(), stop: &stop };
        let held = look.find(window, &Remembered::default())?;
        let whole = held.filter(|held| held.rest.is_none());
        Ok(whole.map(|held| Session::new(Arc::new(held.records), frame_bytes)))
    };
    Ok(on_disk(look).await?)
}

/// Events by their ids, one on each line: as many as fit, in the order in which they were asked for.
async fn events(node: &Arc<Node>, ids: Vec<String>, max_payload: usize) -> Result<Vec<u8>, ClusterError> {
    let node = Arc::clone(node);
    let read = move || -> Result<Vec<u8>, StoreError> {
        let (mut lines, snapshot, now) = (Vec::new(), node.serving.store.read()?, now());
        for id in ask::to_ids(&ids).unwrap_or_default() {
            let Some((seq, event)) = snapshot.by_id(&id)? else { continue };
            if event.is_expired(now) || snapshot.is_hidden(seq, event)? {
                continue;
            }
            if !ask::add_line(&mut lines, &message::write(event), max_payload) {
                break;
            }
        }
        Ok(lines)
    };
    Ok(on_disk(read).await?)
}
