//! What operators watch, on an address of its own: `/metrics`, `/healthz`, `/readyz`.
//!
//! It is never reachable through the clients' address.

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use super::http::text;
use super::io::IoContext;
use crate::metrics::QueueLabel;

/// Serves until the io thread ends.
pub async fn serve(context: Rc<IoContext>, listener: StdListener) {
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "metrics cannot be served");
            return;
        }
    };
    while let Ok((stream, _)) = listener.accept().await {
        let context = Rc::clone(&context);
        let service = service_fn(move |request| {
            let context = Rc::clone(&context);
            async move { Ok::<_, Infallible>(handle(&context, &request)) }
        });
        tokio::task::spawn_local(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::trace!(%error, "a metrics connection ended");
            }
        });
    }
}

fn handle(context: &IoContext, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n");
    }
    match request.uri().path() {
        "/metrics" => {
            collect(context);
            let mut response = text(StatusCode::OK, context.front.shared.metrics.render());
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
            response
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => ready(context),
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz and /readyz are served here\n"),
    }
}

fn ready(context: &IoContext) -> Response<Full<Bytes>> {
    if context.draining.get() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the relay is stopping\n");
    }
    if !context.front.shared.is_writable() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "storage full: reads go on, events are refused\n");
    }
    text(StatusCode::OK, "ready\n")
}

/// Reads the gauges that are only worth reading when somebody looks.
fn collect(context: &IoContext) {
    let shared = &context.front.shared;
    let metrics = &shared.metrics;
    let (subscriptions, items) = shared.live.size();
    metrics.subscriptions.set(subscriptions as i64);
    metrics.filter_items.set(items as i64);
    metrics.outbox_bytes.set(shared.outboxes.used_bytes() as i64);
    metrics.ingest_bytes.set(shared.ingest.bytes() as i64);
    metrics.verify_mismatches.set(shared.verifier.mismatches() as i64);
    let (sessions, records) = shared.negentropy.size();
    metrics.negentropy_sessions.set(sessions as i64);
    metrics.negentropy_records.set(records as i64);
    let queues = [("ingest", shared.ingest.events()), ("scans", shared.scans.len())];
    for (queue, len) in queues {
        metrics.queue_len.get_or_create(&QueueLabel { queue }).set(len as i64);
    }
}
