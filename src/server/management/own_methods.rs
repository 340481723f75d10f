//! Methods of the management API that NIP-86 does not have and that are about the running relay: what it does, what it
//! holds, and what it is told by its operator.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

use super::history;
use super::service::Service;
use super::view;
use crate::management::{Actor, Request};
use crate::metrics::{Exposition, Reload, ReloadLabel};
use crate::server::dashboard::sessions::{LINK_FOR, Visitor};
use crate::server::gauges;

/// How long a reload may take before the answer is that it is not known.
const RELOADED_WITHIN: Duration = Duration::from_secs(8);
const LOOK: Duration = Duration::from_millis(20);

/// Kinds that are told.
const MAX_KINDS: usize = 30;

impl Service {
    /// Carries a request out, if it is one of [`view::METHODS`].
    pub(super) async fn call_own(&self, request: &Request, who: &Actor) -> Option<Result<Value, String>> {
        if let Some(answer) = view::call(self.serving(), request) {
            return Some(answer);
        }
        Some(match request.method.as_str() {
            "figures" => self.figures(request),
            "storage" => self.storage().await,
            "configuration" => self.configuration(),
            "reload" => self.reload(who).await,
            "lookup" => self.look_up(request).await,
            "countevents" => self.count_events(request).await,
            "explain" => self.explain(request).await,
            "startpurge" => self.start_purge(request, who),
            "purges" => Ok(self.purges.told()),
            "stoppurge" => Ok(self.purges.stop().into()),
            _ => return None,
        })
    }

    /// Takes points of the history as they are due, until the thread ends. Without a dashboard it takes none.
    pub(super) async fn take_history(self: std::rc::Rc<Self>) {
        let Some(dashboard) = self.dashboard.clone() else { return };
        let mut tick = tokio::time::interval(history::STEP);
        loop {
            tick.tick().await;
            let now = Instant::now();
            if self.history.borrow().is_due(dashboard.sessions.is_anybody_here(now), now) {
                let metrics = self.metrics();
                self.history.borrow_mut().take(&metrics, now, self.serving().clock.now().0);
            }
        }
    }

    fn metrics(&self) -> Exposition {
        gauges::collect(self.serving());
        Exposition::read(&self.serving().metrics.render())
    }

    /// What the relay does now, and a series of points: `recent` or `day`, those later than a time.
    fn figures(&self, request: &Request) -> Result<Value, String> {
        let of_day = request.param(0).and_then(Value::as_str) == Some("day");
        let since = request.number(1).map_err(|error| error.to_string())?.unwrap_or_default();
        let (serving, metrics, history) = (self.serving(), self.metrics(), self.history.borrow());
        let (queues, links) = history::now(&metrics, serving.outward.is_on());
        let is_stuck = serving.heartbeat.is_writer_stuck(serving.clock.now_us());
        let trouble = serving.health.trouble().or_else(|| is_stuck.then(|| "events cannot be stored".into()));
        let gauge = |name: &str| metrics.value(name);
        Ok(json!({
            "now": serving.clock.now().0,
            "version": env!("CARGO_PKG_VERSION"),
            "started": gauge("process_start_time_seconds"),
            "writable": serving.writable.get(),
            "trouble": trouble,
            "held": gauge("connections_held"),
            "connections": gauge("connections"),
            "subscriptions": gauge("subscriptions"),
            "events": gauge("store_entries{table=\"event\"}"),
            "used_bytes": gauge("store_used_bytes"),
            "full_bytes": gauge("store_full_bytes"),
            "disk_free_bytes": gauge("disk_free_bytes"),
            "private_bytes": gauge("process_private_bytes"),
            "latencies": history.latencies(&metrics),
            "refusals": history.refusals(&metrics),
            "minutes": history.minutes(),
            "queues": queues,
            "links": links,
            "series": history.series(of_day, since),
        }))
    }

    /// What takes the room, by kind, and how long the room will last.
    async fn storage(&self) -> Result<Value, String> {
        let (settings, now) = (self.serving().settings.load_full(), self.serving().clock.now());
        let forecast = self.outlook.forecast(self.store(), settings, now).await?;
        let mut kinds = self.store().read().and_then(|snapshot| snapshot.kinds()).map_err(|error| error.to_string())?;
        kinds.sort_by_key(|(_, usage)| std::cmp::Reverse(usage.footprint));
        let kinds: Vec<Value> = (kinds.iter().take(MAX_KINDS))
            .map(|(kind, usage)| json!([kind.0, usage.events, usage.footprint]))
            .collect();
        Ok(json!({ "kinds": kinds, "forecast": forecast }))
    }

    fn configuration(&self) -> Result<Value, String> {
        let dashboard = self.dashboard.as_ref().ok_or("the configuration is shown where [dashboard] is on")?;
        Ok(json!(*dashboard.configuration.load_full()))
    }

    /// Has the configuration read again, as SIGHUP does, and tells whether it was taken.
    async fn reload(&self, who: &Actor) -> Result<Value, String> {
        let metrics = Arc::clone(&self.serving().metrics);
        let count = || {
            [Reload::Applied, Reload::Failed].map(|result| metrics.reloads.get_or_create(&ReloadLabel { result }).get())
        };
        let before = count();
        tracing::info!(by = who.by, "a reload of the configuration");
        // A process may always signal itself.
        kill_process(getpid(), Signal::HUP).map_err(|error| error.to_string())?;
        let until = Instant::now() + RELOADED_WITHIN;
        while Instant::now() < until {
            tokio::time::sleep(LOOK).await;
            let [applied, failed] = count();
            if failed > before[1] {
                return Err(
                    "the configuration was not taken, the former one stays in force; the log names the line".into()
                );
            }
            if applied > before[0] {
                return Ok(true.into());
            }
        }
        Err("the configuration was not read yet; the log will tell".into())
    }

    /// A link that opens the dashboard once, for the user of the local socket.
    pub(super) fn dashboard_link(&self, who: &Actor) -> Result<Value, String> {
        let dashboard =
            self.dashboard.as_ref().ok_or("no address serves the dashboard: see [dashboard] in the configuration")?;
        let link = dashboard.sessions.link(Visitor::User(who.by.clone()), Instant::now());
        let link = link.map_err(|error| error.to_string())?;
        tracing::info!(by = who.by, "a link to the dashboard");
        let urls: Vec<String> = dashboard.urls().iter().map(|url| format!("{url}#{}", link.text())).collect();
        Ok(json!({ "urls": urls, "seconds": LINK_FOR.as_secs() }))
    }
}
