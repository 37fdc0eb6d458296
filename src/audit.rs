//! The audit of a closed store: rebuilds every default machine from what is stored, checks every
//! invariant, and holds the tables against the machines. It mends nothing.

use std::{path::Path, sync::Arc};

use serde::Serialize;
use tidegate_actors::{
    Durable, RestoreError,
    archive::{self, ArchiveError},
    codec, rebuild, rebuild_from,
};
use tidegate_machines::{
    Consumers, Machine, Order, Orders, Stock, Topics,
    invariants::{
        Violation, check_conservation, check_consumers, check_orders, check_stock, check_topics,
    },
};
use tidegate_storage::{Journal, Position, State};

use crate::{error::OpenError, runtime::AtRest};

/// Archived orders looked at together.
const PAGE_ORDERS: usize = 1_024;

/// What an audit found.
#[derive(Clone, Debug, Serialize)]
pub struct AuditReport {
    /// Whether every check has passed.
    pub ok: bool,
    /// Every check, in the order in which they were made.
    pub checks: Vec<Check>,
}

/// One check of an audit.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its name, which stays the same.
    pub name: &'static str,
    /// Whether it has passed.
    pub ok: bool,
    /// What was looked at, or the first thing found wrong.
    pub detail: String,
}

/// Audits the store in `dir`, which must not be open elsewhere. Blocks and reads the whole store;
/// takes the memory of all of its orders, archived ones too.
///
/// # Errors
/// The store can't be opened at all: there is none, it is open elsewhere, its journal is damaged.
pub fn audit(dir: impl AsRef<Path>) -> Result<AuditReport, OpenError> {
    let store = AtRest::open(dir.as_ref())?;
    let mut audit = Audit { store, checks: Vec::new() };
    audit.run();
    let ok = audit.checks.iter().all(|check| check.ok);
    Ok(AuditReport { ok, checks: audit.checks })
}

/// All shards of Tidegate's own, as they are.
struct Shards {
    stocks: Vec<Stock>,
    orders: Vec<Orders>,
    topics: Vec<Topics>,
    consumers: Vec<Consumers>,
}

struct Audit {
    store: AtRest,
    checks: Vec<Check>,
}

impl Audit {
    fn run(&mut self) {
        let Some(Shards { stocks, orders, topics, consumers }) = self.rebuild_all() else { return };
        let invariants = stocks.iter().map(check_stock).chain(orders.iter().map(check_orders));
        let invariants = invariants.chain(topics.iter().map(check_topics));
        let invariants = invariants.chain(consumers.iter().map(check_consumers));
        let invariants = invariants.collect::<Result<Vec<()>, _>>();
        let detail = format!(
            "{} stock shards, {} order shards, {} topic shards, {} consumer shards",
            stocks.len(),
            orders.len(),
            topics.len(),
            consumers.len()
        );
        self.note("invariants", invariants.map(|_| detail).map_err(|found| found.to_string()));

        let genesis = self.genesis(&stocks, &orders, &topics, &consumers);
        self.note("replay", genesis);

        let archived = self.archived(&orders);
        self.note("archive", archived.as_ref().map(|(_, text)| text.clone()).map_err(Clone::clone));
        if let Ok((archived, _)) = archived {
            let (stocks, orders): (Vec<_>, Vec<_>) =
                (stocks.iter().collect(), orders.iter().collect());
            let live: usize = orders.iter().map(|shard| shard.iter().count()).sum();
            let detail = format!("{live} orders in memory, {} archived", archived.len());
            let agree = check_conservation(&stocks, &orders, &archived);
            self.note("conservation", agree.map(|()| detail).map_err(|v: Violation| v.to_string()));
        }
    }

    fn note(&mut self, name: &'static str, result: Result<String, String>) {
        let ok = result.is_ok();
        let detail = result.unwrap_or_else(|error| error);
        self.checks.push(Check { name, ok, detail });
    }

    fn rebuild_all(&mut self) -> Option<Shards> {
        let AtRest { journal, state, layout, .. } = &self.store;
        let rebuilt = || {
            Ok::<_, RestoreError>(Shards {
                stocks: rebuild_each(layout.stock(), &**journal, state)?,
                orders: rebuild_each(layout.orders(), &**journal, state)?,
                topics: rebuild_each(layout.topics(), &**journal, state)?,
                consumers: rebuild_each(layout.consumers(), &**journal, state)?,
            })
        };
        let detail = format!("journal from position {} to {}", journal.oldest(), journal.durable());
        match rebuilt() {
            Ok(rebuilt) => {
                self.note("recovery", Ok(detail));
                Some(rebuilt)
            }
            Err(error) => {
                self.note("recovery", Err(error.to_string()));
                None
            }
        }
    }

    /// As long as the journal reaches back to its beginning, it alone must give the same bytes.
    fn genesis(
        &self,
        stocks: &[Stock],
        orders: &[Orders],
        topics: &[Topics],
        consumers: &[Consumers],
    ) -> Result<String, String> {
        let AtRest { journal, layout, .. } = &self.store;
        if journal.oldest() > Position::ZERO.next() {
            let oldest = journal.oldest();
            return Ok(format!("journal trimmed up to position {oldest}; snapshots stand for it"));
        }
        same(layout.stock(), stocks, &**journal)?;
        same(layout.orders(), orders, &**journal)?;
        same(layout.topics(), topics, &**journal)?;
        same(layout.consumers(), consumers, &**journal)?;
        Ok("the journal alone gives the same bytes as snapshots and journal".to_owned())
    }

    /// Every archived order that is also in memory must be the same, or the older one, and its
    /// user must lead to it.
    fn archived(&self, orders: &[Orders]) -> Result<(Vec<Order>, String), String> {
        let state = &*self.store.state;
        let words = |error: ArchiveError| error.to_string();
        let mut archived: Vec<Order> = Vec::new();
        loop {
            let after = archived.last().map(|order| order.id);
            let page = archive::scan(state, after, PAGE_ORDERS).map_err(words)?;
            if page.is_empty() {
                break;
            }
            archived.extend(page);
        }
        for row in &archived {
            let shard = orders.get(usize::from(row.id.shard()));
            let shard = shard.ok_or_else(|| format!("order {} belongs to no shard", row.id))?;
            if let Some(live) = shard.order(row.id) {
                let fits = row.version < live.version || row == live;
                fits.then_some(()).ok_or_else(|| {
                    format!("order {}: archived {row:?}, in memory {live:?}", row.id)
                })?;
            }
            let listed = archive::is_listed(state, row).map_err(words)?;
            listed.then_some(()).ok_or_else(|| {
                format!("order {} is not among the orders of {}", row.id, row.user)
            })?;
        }
        let text = format!("{} orders by id and by user", archived.len());
        Ok((archived, text))
    }
}

pub(crate) fn rebuild_each<M: Durable>(
    fresh: Vec<M>,
    journal: &dyn Journal,
    state: &Arc<dyn State>,
) -> Result<Vec<M>, RestoreError> {
    let each = (0..).zip(fresh);
    each.map(|(index, fresh)| Ok(rebuild(index, fresh, journal, state)?.machine)).collect()
}

fn same<M: Durable + Machine>(
    fresh: Vec<M>,
    rebuilt: &[M],
    journal: &dyn Journal,
) -> Result<(), String> {
    for ((index, fresh), rebuilt) in (0..).zip(fresh).zip(rebuilt) {
        let folded = rebuild_from(index, fresh, Position::ZERO, journal);
        let folded = folded.map_err(|error| error.to_string())?.machine;
        let bytes = |machine: &M| {
            let mut bytes = Vec::new();
            codec::encode(machine, &mut bytes).map(|()| bytes).map_err(|error| error.to_string())
        };
        if bytes(&folded)? != bytes(rebuilt)? {
            return Err(format!("{} shard {index}: snapshot and journal differ", M::NAME));
        }
    }
    Ok(())
}
