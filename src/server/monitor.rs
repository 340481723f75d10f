//! Serves `/metrics`, `/healthz` and `/readyz` to operators, on a separate address, and `/changes` and the
//! dashboard if it is to.
//!
//! The first three are never reachable through the clients' address.

use std::convert::Infallible;
use std::net::{IpAddr, TcpListener as StdListener};
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
use tokio::sync::watch;

use super::change_feed;
use super::context::{ACCEPT_PAUSE, IoContext};
use super::dashboard::{self, context::Side};
use super::gauges;
use super::http::names_one_host;
use super::response::{method_not_allowed, text};
use super::stage::Stage;

/// Serves until the io thread ends.
pub async fn serve(context: Rc<IoContext>, listener: StdListener, mut told: watch::Receiver<Stage>) {
    let listener = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "metrics cannot be served");
            return;
        }
    };
    loop {
        let stage = *told.borrow_and_update();
        let accepted = tokio::select! {
            // An error means that the server was dropped.
            changed = told.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            accepted = listener.accept(), if stage.serves_operators() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                // Out of descriptors; try again when some are free.
                tracing::debug!(%error, "a metrics connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let context = Rc::clone(&context);
        let service = service_fn(move |request| {
            let context = Rc::clone(&context);
            async move { Ok::<_, Infallible>(handle(&context, request, peer).await) }
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

async fn handle(context: &IoContext, request: Request<Incoming>, peer: IpAddr) -> Response<Full<Bytes>> {
    if !names_one_host(request.version(), request.headers()) {
        return text(StatusCode::BAD_REQUEST, "a request names one host\n");
    }
    if let Some(dashboard) = context.front.dashboard.as_ref().filter(|dashboard| dashboard.is_on(Side::Metrics))
        && dashboard.below(request.uri().path()).is_some()
    {
        return dashboard::site::answer(context, dashboard, (Side::Metrics, peer), request).await;
    }
    if request.uri().path() == change_feed::PATH && context.front.changes.is_on_metrics_address() {
        let query = request.uri().query().unwrap_or_default();
        return change_feed::answer(context, (request.method(), query), peer).await;
    }
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    match request.uri().path() {
        "/metrics" => {
            let pipeline = &context.front.pipeline;
            gauges::collect(pipeline);
            pipeline.metrics.partial_message_bytes.set(context.front.partial_messages.bytes() as i64);
            pipeline.metrics.half_open.set(context.front.admission.half_open() as i64);
            let mut response = text(StatusCode::OK, pipeline.metrics.render());
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
            response
        }
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/readyz" => {
            let pipeline = &context.front.pipeline;
            let trouble = pipeline.health.trouble().or_else(|| {
                let is_stuck = pipeline.heartbeat.is_writer_stuck(pipeline.clock.now_us());
                is_stuck.then(|| {
                    "events cannot be stored: the disk, or a command that holds the store, does not answer".into()
                })
            });
            let (status, why) = readiness(trouble, context.draining.get(), pipeline.writable.get());
            text(status, why)
        }
        _ => text(StatusCode::NOT_FOUND, "/metrics, /healthz and /readyz are served here\n"),
    }
}

/// The answer for load balancers.
fn readiness(trouble: Option<String>, is_draining: bool, is_writable: bool) -> (StatusCode, String) {
    let reason = match (trouble, is_draining, is_writable) {
        (Some(trouble), _, _) => trouble,
        (None, true, _) => "the relay is stopping".into(),
        (None, false, false) => "storage full: reads go on, events are refused".into(),
        (None, false, true) => return (StatusCode::OK, "ready\n".into()),
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_stops_or_is_full_or_cannot_commit_is_not_ready() {
        let status = |is_draining, is_writable| readiness(None, is_draining, is_writable).0.as_u16();
        assert_eq!(
            [status(false, true), status(false, false), status(true, true), status(true, false)],
            [200, 503, 503, 503]
        );
        let (status, why) = readiness(Some("events cannot be stored: no disk".into()), true, false);
        assert_eq!((status.as_u16(), why.as_str()), (503, "events cannot be stored: no disk\n"));
    }
}
