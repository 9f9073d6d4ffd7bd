//! The trail in the log: what was committed, a line each, and now and then where each chain ends. Kept
//! where the daemon cannot write, in the journal or on another machine, the lines say what the
//! trail has to hold.

use std::collections::HashMap;
use std::time::Duration;

use super::chain::Part;
use super::rows::Head;
use super::{Entry, Store, verify};
use crate::chain::Chain;

/// Time between two lines about where the chains end.
pub(super) const HEADS_EVERY: Duration = Duration::from_secs(600);
/// Lines about one group's records of plugins and clients: how many there are is theirs to say. The
/// trail has all of them.
const TRAFFIC_LINES: usize = 50;
/// Most of them about what one plugin or client did.
const TRAFFIC_LINES_EACH: usize = 10;

/// Records that are told once they are committed.
#[derive(Debug, Default)]
#[must_use = "what is committed is told"]
pub(in crate::store) struct Told {
    records: Vec<(Head, Entry, i64)>,
    traffic: usize,
    by_actor: HashMap<String, usize>,
    left_out: usize,
}

impl Told {
    pub(super) fn push(&mut self, head: Head, entry: &Entry, count: i64) {
        if head.part == Part::Traffic {
            // What was allowed is in the trail. Requests of clients are in the access log too; calls of plugins are in the
            // log at the level debug alone.
            if entry.decision == "allow" {
                return;
            }
            let own = self.by_actor.get(&entry.actor).copied().unwrap_or(0);
            if self.traffic >= TRAFFIC_LINES || own >= TRAFFIC_LINES_EACH {
                self.left_out += 1;
                return;
            }
            self.traffic += 1;
            self.by_actor.insert(entry.actor.clone(), own + 1);
        }
        self.records.push((head, entry.clone(), count));
    }

    /// Writes the lines.
    pub(in crate::store) fn tell(self) {
        for (head, entry, count) in self.records {
            tracing::info!(
                target: "pinfold::audit",
                number = head.number,
                actor = entry.actor,
                action = entry.action,
                subject = entry.subject,
                decision = entry.decision,
                plugin.id = entry.plugin,
                permission = entry.permission,
                detail = entry.detail,
                count,
                hash = %head.hash,
                "audit record"
            );
        }
        if self.left_out > 0 {
            tracing::info!(
                target: "pinfold::audit",
                records = self.left_out,
                "further audit records are in the trail alone"
            );
        }
    }
}

impl Store {
    /// Says where each chain ends.
    pub(super) async fn tell_heads(&self) {
        let heads = async {
            let mut connection = self.pool.acquire().await?;
            verify::heads(&mut connection).await
        };
        match heads.await {
            Ok(heads) => {
                for head in heads {
                    tracing::info!(
                        target: "pinfold::audit",
                        part = head.part.as_str(),
                        number = head.number,
                        hash = %head.hash,
                        "audit head"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "end of the audit trail not read");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::BEGINNING;
    use super::*;

    #[test]
    fn one_that_is_refused_without_end_leaves_the_others_their_lines() {
        let mut told = Told::default();
        let refused = |actor: &str, n: i64| {
            let entry = Entry {
                decision: "deny",
                ..Entry::admin(actor.into(), "hostapi.cache.get", n.to_string())
            };
            let head = Head {
                part: Part::Traffic,
                number: n,
                hash: BEGINNING,
            };
            (head, entry)
        };
        for n in 0..100 {
            let (head, entry) = refused("plugin:flood", n);
            told.push(head, &entry, 1);
        }
        let (head, entry) = refused("plugin:quiet", 100);
        told.push(head, &entry, 1);
        let of = |actor: &str| {
            let records = told.records.iter();
            records.filter(|(_, entry, _)| entry.actor == actor).count()
        };
        assert_eq!((of("plugin:flood"), of("plugin:quiet")), (10, 1));
        assert_eq!(told.left_out, 90);
    }
}
