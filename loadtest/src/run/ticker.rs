//! Says now and then how far a phase is and how long it will take.
//!
//! It must never slow the phase down: it looks at counters that are kept anyway, every few seconds.

use std::time::{Duration, Instant};

use super::context::Context;
use crate::pace::duration;

/// How often it speaks.
const EVERY: Duration = Duration::from_secs(5);

/// What a phase has to do; it ends with whichever comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// Answers.
    pub answers: Option<u64>,
    /// Time.
    pub length: Option<Duration>,
}

impl Goal {
    /// The share that is done, from 0 to 1; `None` if the phase has no goal.
    fn share(&self, answered: u64, elapsed: Duration) -> Option<f64> {
        let by_answers = self.answers.map(|all| answered as f64 / all.max(1) as f64);
        let by_time = self.length.map(|length| elapsed.as_secs_f64() / length.as_secs_f64());
        by_answers.into_iter().chain(by_time).reduce(f64::max).map(|share| share.clamp(0.0, 1.0))
    }
}

/// Speaks until it is dropped.
pub struct Ticker(tokio::task::JoinHandle<()>);

impl Ticker {
    /// Speaks about a phase that began now; `None` if nobody wants to hear it.
    pub fn start(context: &Context, goal: Goal, answered: impl Fn() -> u64 + 'static) -> Option<Self> {
        let began = Instant::now();
        let speak = async move {
            loop {
                tokio::time::sleep(EVERY).await;
                if let Some(text) = text(goal, answered(), began.elapsed()) {
                    eprintln!("  {text}");
                }
            }
        };
        context.progress.then(|| Self(tokio::task::spawn_local(speak)))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How far a phase is; `None` if nothing can be said.
fn text(goal: Goal, answered: u64, elapsed: Duration) -> Option<String> {
    let share = goal.share(answered, elapsed).filter(|share| *share > 0.0)?;
    let left = elapsed.as_secs_f64() * (1.0 - share) / share;
    Some(format!("{:.0} %, {answered} answers, about {} left", share * 100.0, duration(left)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_what_is_done() {
        let second = Duration::from_secs;
        let counted = Goal { answers: Some(1000), length: None };
        let expected = Some("25 %, 250 answers, about 30 s left".to_string());
        assert_eq!(text(counted, 250, second(10)), expected);
        let timed = Goal { answers: Some(1_000_000), length: Some(second(40)) };
        assert_eq!(text(timed, 250, second(10)), expected);
        assert_eq!(text(counted, 0, second(10)), None);
        assert_eq!(text(Goal::default(), 250, second(10)), None);
    }
}
