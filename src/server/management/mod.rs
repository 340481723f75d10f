//! Managing the running relay (NIP-86): the requests that come over HTTP or the local socket, and the `management`
//! thread that carries them out.
//!
//! An io thread only reads a request and checks what is cheap. Signatures, files and removals are left to the thread.
//! It never waits for a client, and no client but an admin reaches it.

pub(in crate::server) mod endpoint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod history;
pub mod link;
mod local;
mod lookup;
mod members;
mod membership_events;
mod outlook;
mod own_methods;
mod purge;
mod purge_queue;
mod purge_worker;
mod reports;
mod requests;
mod service;
mod view;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use super::dashboard::context::DashboardContext;
use crate::management::Journal;
use crate::management::socket::{self, Bound};
use crate::pipeline::{OnFailure, Serving};
use link::Link;

pub use endpoint::{answer, is_meant};

/// The running thread.
pub struct Management {
    link: Link,
    stop: watch::Sender<bool>,
    /// Where the local socket goes once it is bound, and the directory of the store.
    socket: Option<oneshot::Sender<(Bound, UnixListener)>>,
    data: PathBuf,
    thread: JoinHandle<()>,
}

/// Starts the thread with the decisions in `journal`, which are already in force, and what the dashboard has, if there
/// is one.
///
/// # Errors
/// When the system starts no more threads.
pub fn start(
    (journal, dashboard): (Journal, Option<Arc<DashboardContext>>),
    serving: Serving,
    on_failure: &OnFailure,
) -> std::io::Result<Management> {
    let (link, inbox) = Link::new();
    let (stop, stopped) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let on_failure = Arc::clone(on_failure);
    let (bound, socket) = oneshot::channel();
    let data = serving.store.path().to_path_buf();
    let run = move || {
        let work = std::panic::AssertUnwindSafe(|| {
            let service = service::Service::new((journal, dashboard), serving);
            let work = async {
                tokio::task::spawn_local(serve_locally(Rc::clone(&service), socket));
                Rc::clone(&service).run(inbox, stopped).await;
            };
            tokio::task::LocalSet::new().block_on(&runtime, work);
        });
        if std::panic::catch_unwind(work).is_err() {
            on_failure("the thread management panicked");
        }
    };
    let thread = std::thread::Builder::new().name("management".into()).spawn(run)?;
    Ok(Management { link, stop, socket: Some(bound), data, thread })
}

/// Serves the local socket once it is bound. The socket goes with the thread.
async fn serve_locally(service: Rc<service::Service>, socket: oneshot::Receiver<(Bound, UnixListener)>) {
    let Ok((_bound, listener)) = socket.await else { return };
    let listener = listener.set_nonblocking(true).and_then(|()| tokio::net::UnixListener::from_std(listener));
    match listener {
        Ok(listener) => local::serve(service, listener).await,
        Err(error) => tracing::warn!(%error, "the local socket cannot be served: commands cannot reach this relay"),
    }
}

impl Management {
    /// What the server needs of it.
    #[must_use]
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Binds the local socket in the directory of the store, in place of that of an earlier process. To be called when
    /// that one will not serve again. Without the socket the relay runs all the same, and the log tells why.
    pub fn listen(&mut self) {
        let Some(socket) = self.socket.take() else { return };
        match socket::bind(&self.data) {
            // This fails only if the thread has ended.
            Ok(bound) => drop(socket.send(bound)),
            Err(error) => {
                tracing::warn!(%error, "the local socket could not be bound: commands cannot reach this relay")
            }
        }
    }

    /// Ends the thread after the request in hand.
    pub fn finish(self) {
        // This fails only if the thread has already ended.
        let _ = self.stop.send(true);
        // A panic has already been reported.
        let _ = self.thread.join();
    }
}
