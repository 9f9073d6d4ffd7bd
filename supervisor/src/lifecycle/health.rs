//! Whether an instance lives: it is asked by its protocol's own ping, and slow is told from dead.
//!
//! What answers nothing for a while is degraded, and goes on serving: it may be stopped in a
//! debugger, or short of processor time. Only after much longer it counts as dead. A process or a
//! connection that has ended is dead at once, and not found out here.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use pinfold_gateway::CallError;
use pinfold_policy::CallContext;
use tokio::time::Instant;

use crate::config::HealthSection;
use crate::dialect::Running;
use crate::state::Health;

/// Asks one instance, again and again.
pub(super) struct Pulse {
    instance: Arc<dyn Running>,
    next: Instant,
    asked: Option<BoxFuture<'static, Answer>>,
    health: Health,
}

/// How long the answer took, or none came.
type Answer = Result<Duration, CallError>;

/// What one question came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// It answers.
    Alive,
    /// It did not answer in time, which is not yet often enough to say anything.
    Late,
    /// It has not answered so often in a row: slow.
    Slow(u32),
    /// Much more often: taken for dead.
    Dead(u32),
}

impl Pulse {
    /// Of an instance that has just come to serve.
    pub(super) fn new(instance: Arc<dyn Running>, settings: &HealthSection) -> Self {
        Self {
            instance,
            next: Instant::now() + settings.interval.0,
            asked: None,
            health: Health::default(),
        }
    }

    /// How it has answered so far.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Asks once the time has come, and judges the answer. Cancel-safe: a question under way is
    /// not asked again.
    pub(super) async fn beat(&mut self, settings: &HealthSection) -> Beat {
        if self.asked.is_none() {
            tokio::time::sleep_until(self.next).await;
        }
        let limit = settings.timeout.0;
        let asked = self
            .asked
            .get_or_insert_with(|| ask(Arc::clone(&self.instance), limit).boxed());
        let answer = asked.await;
        self.asked = None;
        self.next = Instant::now() + settings.interval.0;
        self.judge(answer, settings)
    }

    fn judge(&mut self, answer: Answer, settings: &HealthSection) -> Beat {
        let health = &mut self.health;
        health.last_ping = Some(Utc::now());
        match answer {
            Ok(took) => {
                health.failures = 0;
                health.round_trip = Some(took);
                Beat::Alive
            }
            // Nothing said in time; or no connection to say it on, of which others learn as well.
            Err(CallError::Deadline | CallError::Gone { .. }) => {
                health.failures = health.failures.saturating_add(1);
                match health.failures {
                    count if count >= settings.kill_after => Beat::Dead(count),
                    count if count >= settings.degraded_after => Beat::Slow(count),
                    _ => Beat::Late,
                }
            }
            // An answer, if not the one expected: it lives.
            Err(_) => {
                health.failures = 0;
                Beat::Alive
            }
        }
    }
}

async fn ask(instance: Arc<dyn Running>, limit: Duration) -> Answer {
    let start = Instant::now();
    let context = CallContext {
        request_id: "health".into(),
        user: None,
        language: None,
        deadline: (start + limit).into_std(),
        depth: 0,
    };
    // The instance knows the deadline too; should it not keep it, this does.
    match tokio::time::timeout(limit, instance.ping(context)).await {
        Ok(answered) => answered.map(|()| start.elapsed()),
        Err(_) => Err(CallError::Deadline),
    }
}
