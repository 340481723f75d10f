//! Requests over the local socket, from commands of the relay's own user.
//!
//! Bounded like clients over HTTP: a few connections, a longest request, and nobody is waited for.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::purge::Purge;
use super::purge_queue::PurgeRequest;
use super::service::Service;
use crate::management::socket::MAX_REQUEST;
use crate::management::{Actor, Request};

/// Connections at a time; one more is told so and closed.
const MAX_CONNECTIONS: usize = 16;

/// How long a connection may be silent between requests, and how long one may take to read an answer.
const IDLE: Duration = Duration::from_secs(60);

/// How long to wait after an accept fails for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a purge tells its progress.
const TELL: Duration = Duration::from_millis(200);

/// Accepts connections until the thread ends.
pub async fn serve(service: Rc<Service>, listener: UnixListener) {
    let open = Rc::new(());
    loop {
        match listener.accept().await {
            Ok((stream, _)) if Rc::strong_count(&open) > MAX_CONNECTIONS => {
                let busy = b"{\"error\":\"too many commands are connected; try again later\"}\n";
                // It is closed either way.
                let _ = stream.try_write(busy);
            }
            Ok((stream, _)) => {
                let (service, place) = (Rc::clone(&service), Rc::clone(&open));
                tokio::task::spawn_local(async move {
                    if let Err(error) = converse(&service, stream).await {
                        tracing::debug!(%error, "a command left");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a command could not connect");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(service: &Service, stream: UnixStream) -> std::io::Result<()> {
    let who = Actor { by: format!("uid:{}", stream.peer_cred()?.uid()), auth: None };
    let (reader, mut writer) = stream.into_split();
    let (mut reader, mut line) = (BufReader::new(reader), Vec::new());
    loop {
        line.clear();
        let mut limited = (&mut reader).take(MAX_REQUEST as u64 + 1);
        let read = timeout(IDLE, limited.read_until(b'\n', &mut line)).await.map_err(std::io::Error::other)??;
        if read == 0 {
            return Ok(());
        }
        if read > MAX_REQUEST {
            return tell(&mut writer, &json!({ "error": "the request is larger than 64 KiB" })).await;
        }
        let answer = match Request::parse(&line) {
            Ok(request) if request.method == "purge" => purge(service, &request, &who, &mut writer).await?,
            Ok(request) if request.method == "dashboardlink" => service.dashboard_link(&who),
            Ok(request) => service.call(&request, &who).await,
            Err(error) => Err(error.to_string()),
        };
        let answer = answer.map_or_else(|error| json!({ "error": error }), |result| json!({ "result": result }));
        tell(&mut writer, &answer).await?;
    }
}

async fn tell(writer: &mut OwnedWriteHalf, line: &Value) -> std::io::Result<()> {
    let text = line.to_string() + "\n";
    timeout(IDLE, writer.write_all(text.as_bytes())).await.map_err(std::io::Error::other)?
}

/// Removes the stored events of a subject. A command that leaves stops it; asked again, it goes on.
async fn purge(
    service: &Service,
    request: &Request,
    who: &Actor,
    writer: &mut OwnedWriteHalf,
) -> std::io::Result<Result<Value, String>> {
    let purge = match PurgeRequest::read(request, who) {
        Ok(order) => Purge::begin(service, &order).await,
        Err(error) => Err(error.to_string()),
    };
    let mut purge = match purge {
        Ok(purge) => purge,
        Err(error) => return Ok(Err(error)),
    };
    let mut told = tokio::time::Instant::now();
    loop {
        match purge.step(service).await {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(json!({ "removed": purge.removed() }))),
            Err(error) => return Ok(Err(error)),
        }
        if told.elapsed() >= TELL {
            told = tokio::time::Instant::now();
            tell(writer, &json!({ "progress": { "removed": purge.removed() } })).await?;
        }
    }
}
