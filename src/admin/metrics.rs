//! A [`Report`] in the text format that Prometheus reads. One machine's shards are summed where
//! their number would only make more lines; what an operator acts on is told shard by shard. It
//! measures nothing itself; how a figure is written is in `page`.

use std::fmt::Display;

use super::page::{Page, micros};
use crate::{
    Distribution, Phase, QueueCounts, Report, ShardReport, ViewCondition, ViewReport, postgres,
    webhooks,
};

/// Batch sizes are told for the doublings from 1 to 2^14 − 1 records.
const BATCH_EXPONENTS: std::ops::RangeInclusive<u32> = 1..=14;

/// All figures of `report`.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut page = Page::new();
    write(&mut page, report);
    page.into_text()
}

/// Writes all figures of `report` to a page that has others too.
pub fn write(page: &mut Page, report: &Report) {
    machines(page, report);
    shards(page, report);
    intake(page, report);
    journal(page, report);
    projector(page, report);
    views(page, report);
}

fn machines(page: &mut Page, report: &Report) {
    let machines = Machine::all(report);
    let mut counter = |name: &str, help: &str, figure: fn(&ShardReport) -> u64| {
        page.head(name, "counter", help);
        for machine in &machines {
            let sum: u64 = machine.shards.iter().map(|shard| figure(shard)).sum();
            page.sample(name, &[("machine", &machine.name)], sum);
        }
    };
    counter(
        "tidegate_commands_total",
        "Commands decided, those from other shards and from time included.",
        |shard| shard.commands,
    );
    counter("tidegate_events_total", "Events applied.", |shard| shard.events);
    counter("tidegate_rejections_total", "Commands refused.", |shard| shard.rejections);
    counter("tidegate_restarts_total", "Rebuilds after a panic.", |shard| shard.restarts);

    let name = "tidegate_answer_seconds";
    page.head(name, "histogram", "Time from asking to the durable answer, refusals included.");
    for machine in &machines {
        let spread = machine.sum(|shard| &shard.answer_us);
        page.latencies(name, &[("machine", &machine.name)], &spread);
    }
    let name = "tidegate_batch_records";
    page.head(name, "histogram", "Records in each batch that a shard gives to the journal.");
    for machine in &machines {
        let spread = machine.sum(|shard| &shard.batch_records);
        let bounds = BATCH_EXPONENTS.map(|exponent| {
            let below = 1_u64 << exponent;
            ((below - 1).to_string(), below)
        });
        let labels: [(_, &dyn Display); 1] = [("machine", &machine.name)];
        page.histogram(name, &labels, &spread, bounds, &spread.sum);
    }

    let name = "tidegate_shards";
    page.head(name, "gauge", "Shards by phase; any that is dead or poisoned needs an operator.");
    for machine in &machines {
        for (phase, text) in PHASES {
            let here = machine.shards.iter().filter(|shard| shard.phase == phase).count();
            page.sample(name, &[("machine", &machine.name), ("phase", &text)], here);
        }
    }
}

fn shards(page: &mut Page, report: &Report) {
    let mut gauge = |name: &str, help: &str, figure: fn(&ShardReport) -> u64| {
        page.head(name, "gauge", help);
        for shard in &report.shards {
            let labels: [(_, &dyn Display); 2] =
                [("machine", &shard.name), ("shard", &shard.index)];
            page.sample(name, &labels, figure(shard));
        }
    };
    gauge(
        "tidegate_in_flight_commands",
        "Commands from callers that have no answer yet: the depth of the queue.",
        |shard| shard.in_flight as u64,
    );
    gauge("tidegate_held_replies", "Replies decided whose events are not on disk yet.", |shard| {
        shard.held
    });
    gauge("tidegate_waiting_callers", "Callers who wait for other shards.", |shard| shard.waiting);
}

fn intake(page: &mut Page, report: &Report) {
    let sum = |figure: fn(&QueueCounts) -> u64| {
        report.shards.iter().map(|shard| figure(&shard.queue)).sum::<u64>()
    };
    page.gauge(
        "tidegate_intake_waiting_orders",
        "Orders that wait in the queue for their turn: its depth.",
        sum(QueueCounts::waiting),
    );
    // Counted with the orders themselves, so a restart does not begin again.
    for (name, help, figure) in [
        (
            "tidegate_intake_queued_total",
            "Orders ever queued.",
            (|counts| counts.queued) as fn(&QueueCounts) -> u64,
        ),
        ("tidegate_intake_released_total", "Queued orders whose turn came.", |it| it.released),
        ("tidegate_intake_timed_out_total", "Queued orders rejected at their deadline.", |it| {
            it.timed_out
        }),
        ("tidegate_intake_cancelled_total", "Orders cancelled in the queue.", |it| it.cancelled),
    ] {
        page.counter(name, help, sum(figure));
    }
}

fn journal(page: &mut Page, report: &Report) {
    let journal = &report.journal;
    page.counter("tidegate_journal_commits_total", "Commits of the journal.", journal.commits);
    page.counter("tidegate_journal_records_total", "Records committed.", journal.records);
    page.counter(
        "tidegate_journal_written_bytes_total",
        "Bytes committed, frames included.",
        journal.bytes,
    );
    for (name, help, sum_us) in [
        ("tidegate_journal_sync_seconds", "Time of each disk sync.", journal.sync_us),
        ("tidegate_journal_write_seconds", "Time of each write before it.", journal.write_us),
    ] {
        page.head(name, "summary", help);
        page.sample(&format!("{name}_sum"), &[], micros(sum_us));
        page.sample(&format!("{name}_count"), &[], journal.commits);
    }
    page.gauge(
        "tidegate_journal_disk_bytes",
        "Size of the journal on disk, spare segments included.",
        journal.disk_bytes,
    );
    page.gauge(
        "tidegate_journal_pending_records",
        "Records that are not on disk yet.",
        report.appended.0.saturating_sub(report.durable.0),
    );
    page.gauge(
        "tidegate_journal_durable_position",
        "Position of the last record on disk.",
        report.durable.0,
    );
    page.gauge(
        "tidegate_journal_oldest_position",
        "Position of the oldest record that is kept.",
        report.oldest.0,
    );
    page.gauge("tidegate_state_disk_bytes", "Size of the state on disk.", report.state_disk_bytes);
}

fn projector(page: &mut Page, report: &Report) {
    let projector = &report.projector;
    page.gauge(
        "tidegate_projector_backlog_orders",
        "Orders at rest that are not archived yet: how far the projector lags.",
        projector.backlog,
    );
    page.counter("tidegate_projector_rows_total", "Orders archived.", projector.rows);
    page.counter("tidegate_projector_flushes_total", "Flushes of the state.", projector.flushes);
    page.gauge(
        "tidegate_projector_failed",
        "1 if the projector has stopped because the state can't be written.",
        u64::from(projector.failed),
    );
}

fn views(page: &mut Page, report: &Report) {
    if report.views.is_empty() {
        return;
    }
    let mut each = |kind: &str, name: &str, help: &str, figure: fn(&ViewReport) -> u64| {
        page.head(name, kind, help);
        for view in &report.views {
            page.sample(name, &[("view", &view.name)], figure(view));
        }
    };
    each(
        "gauge",
        "tidegate_view_position",
        "Position up to which the view holds everything.",
        |view| view.position.0,
    );
    let help = "Records on disk that the view does not have yet.";
    each("gauge", "tidegate_view_lag_records", help, |view| view.lag_records);
    let help = "How long ago the view had everything; 0 if it has.";
    each("gauge", "tidegate_view_lag_milliseconds", help, |view| view.lag_ms);
    each("gauge", "tidegate_view_rows", "Rows of the view.", |view| view.rows);
    each("gauge", "tidegate_view_stopped", "1 if the view has stopped; see the log.", |view| {
        u64::from(matches!(view.condition, ViewCondition::Stopped(_)))
    });
    let help = "1 while new rows of the view are being built.";
    each("gauge", "tidegate_view_rebuilding", help, |view| u64::from(view.rebuilding));
    let help = "Events taken in by the view.";
    each("counter", "tidegate_view_events_total", help, |view| view.events);
    let help = "Batches of rows kept by the view.";
    each("counter", "tidegate_view_batches_total", help, |view| view.batches);
    let help = "How often the view was built anew.";
    each("counter", "tidegate_view_builds_total", help, |view| view.builds);
    let help = "How often the view has stopped or could not be built.";
    each("counter", "tidegate_view_failures_total", help, |view| view.failures);
}

/// Writes how a PostgreSQL database follows.
pub fn write_postgres(page: &mut Page, report: &postgres::Report) {
    let name = "tidegate_postgres_phase";
    page.head(name, "gauge", "1 for what the worker for PostgreSQL is doing.");
    for phase in postgres::Phase::ALL {
        page.sample(name, &[("phase", &phase)], u64::from(phase == report.phase));
    }
    page.gauge(
        "tidegate_postgres_position",
        "Position that PostgreSQL has everything up to, as far as this worker knows.",
        report.position.0,
    );
    page.gauge(
        "tidegate_postgres_lag_records",
        "Records on disk that PostgreSQL does not have yet.",
        report.lag_records,
    );
    page.gauge(
        "tidegate_postgres_lag_milliseconds",
        "How long ago PostgreSQL had everything; 0 if it has.",
        report.lag_ms,
    );
    let events = "Events written to PostgreSQL.";
    page.counter("tidegate_postgres_events_total", events, report.events);
    let batches = "Transactions that wrote events.";
    page.counter("tidegate_postgres_batches_total", batches, report.batches);
    let loads = "How often everything was written anew.";
    page.counter("tidegate_postgres_loads_total", loads, report.loads);
    let failures = "How often PostgreSQL was lost or could not be reached.";
    page.counter("tidegate_postgres_failures_total", failures, report.failures);
    let set_back = "How often PostgreSQL was found with less than had been written to it.";
    page.counter("tidegate_postgres_set_back_total", set_back, report.set_back);
}

/// Writes how the endpoints of webhooks fare.
pub fn write_webhooks(page: &mut Page, reports: &[webhooks::EndpointReport]) {
    type Value = fn(&webhooks::EndpointReport) -> u64;
    let families: [(&str, &str, &str, Value); 4] = [
        ("delivered_total", "counter", "Messages that the endpoint took.", |it| it.delivered),
        ("failures_total", "counter", "Attempts to deliver that failed.", |it| it.failed),
        ("failures_in_a_row", "gauge", "Attempts that failed since it last took one.", |it| {
            it.failures_in_a_row
        }),
        ("left_alone", "gauge", "1 if it is left alone for a while, or only tried.", |it| {
            u64::from(it.left_alone)
        }),
    ];
    for (name, kind, help, value) in families {
        let name = format!("tidegate_webhook_{name}");
        page.head(&name, kind, help);
        for report in reports {
            page.sample(&name, &[("endpoint", &report.name)], value(report));
        }
    }
}

const PHASES: [(Phase, &str); 4] = [
    (Phase::Restoring, "restoring"),
    (Phase::Running, "running"),
    (Phase::Poisoned, "poisoned"),
    (Phase::Dead, "dead"),
];

/// The shards of one machine.
struct Machine<'a> {
    name: &'a str,
    shards: Vec<&'a ShardReport>,
}

impl<'a> Machine<'a> {
    fn all(report: &'a Report) -> Vec<Self> {
        let mut machines: Vec<Self> = Vec::new();
        for shard in &report.shards {
            match machines.iter_mut().find(|machine| machine.name == shard.name) {
                Some(machine) => machine.shards.push(shard),
                None => machines.push(Self { name: shard.name, shards: vec![shard] }),
            }
        }
        machines
    }

    fn sum(&self, figure: impl Fn(&ShardReport) -> &Distribution) -> Distribution {
        let mut sum = Distribution::default();
        self.shards.iter().for_each(|shard| sum.add(figure(shard)));
        sum
    }
}

#[cfg(test)]
mod tests;
