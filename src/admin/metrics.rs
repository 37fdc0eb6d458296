//! A [`Report`] in the text format that Prometheus reads. One machine's shards are summed where
//! their number would only make more lines; what an operator acts on is told shard by shard. It
//! measures nothing itself and knows no HTTP.

use std::fmt::{Display, Write};

use crate::{Distribution, Phase, Report, ShardReport};

/// The content type of what [`render`] gives.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Latencies are told for the doublings from 2^4 µs (16 µs) to 2^25 µs (34 s).
const ANSWER_US_EXPONENTS: std::ops::RangeInclusive<u32> = 4..=25;

/// Batch sizes are told for the doublings from 1 to 2^14 − 1 records.
const BATCH_EXPONENTS: std::ops::RangeInclusive<u32> = 1..=14;

/// All figures of `report`.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut page = Page(String::with_capacity(16 << 10));
    page.machines(report);
    page.shards(report);
    page.journal(report);
    page.projector(report);
    page.0
}

struct Page(String);

impl Page {
    fn machines(&mut self, report: &Report) {
        let machines = Machine::all(report);
        let mut counter = |name: &str, help: &str, figure: fn(&ShardReport) -> u64| {
            self.head(name, "counter", help);
            for machine in &machines {
                let sum: u64 = machine.shards.iter().map(|shard| figure(shard)).sum();
                self.sample(name, &[("machine", &machine.name)], sum);
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
        self.head(name, "histogram", "Time from asking to the durable answer, refusals included.");
        for machine in &machines {
            let spread = machine.sum(|shard| &shard.answer_us);
            let bounds = ANSWER_US_EXPONENTS.map(|exponent| {
                let below = 1_u64 << exponent;
                (micros(below), below)
            });
            self.histogram(name, machine.name, &spread, bounds, micros(spread.sum));
        }
        let name = "tidegate_batch_records";
        self.head(name, "histogram", "Records in each batch that a shard gives to the journal.");
        for machine in &machines {
            let spread = machine.sum(|shard| &shard.batch_records);
            let bounds = BATCH_EXPONENTS.map(|exponent| {
                let below = 1_u64 << exponent;
                ((below - 1).to_string(), below)
            });
            self.histogram(name, machine.name, &spread, bounds, spread.sum.to_string());
        }

        let name = "tidegate_shards";
        self.head(
            name,
            "gauge",
            "Shards by phase; any that is dead or poisoned needs an operator.",
        );
        for machine in &machines {
            for (phase, text) in PHASES {
                let here = machine.shards.iter().filter(|shard| shard.phase == phase).count();
                self.sample(name, &[("machine", &machine.name), ("phase", &text)], here);
            }
        }
    }

    fn shards(&mut self, report: &Report) {
        let mut gauge = |name: &str, help: &str, figure: fn(&ShardReport) -> u64| {
            self.head(name, "gauge", help);
            for shard in &report.shards {
                let labels: [(_, &dyn Display); 2] =
                    [("machine", &shard.name), ("shard", &shard.index)];
                self.sample(name, &labels, figure(shard));
            }
        };
        gauge(
            "tidegate_in_flight_commands",
            "Commands from callers that have no answer yet: the depth of the queue.",
            |shard| shard.in_flight as u64,
        );
        gauge(
            "tidegate_held_replies",
            "Replies decided whose events are not on disk yet.",
            |shard| shard.held,
        );
        gauge("tidegate_waiting_callers", "Callers who wait for other shards.", |shard| {
            shard.waiting
        });
    }

    fn journal(&mut self, report: &Report) {
        let journal = &report.journal;
        self.counter("tidegate_journal_commits_total", "Commits of the journal.", journal.commits);
        self.counter("tidegate_journal_records_total", "Records committed.", journal.records);
        self.counter(
            "tidegate_journal_written_bytes_total",
            "Bytes committed, frames included.",
            journal.bytes,
        );
        for (name, help, sum_us) in [
            ("tidegate_journal_sync_seconds", "Time of each disk sync.", journal.sync_us),
            ("tidegate_journal_write_seconds", "Time of each write before it.", journal.write_us),
        ] {
            self.head(name, "summary", help);
            self.sample(&format!("{name}_sum"), &[], micros(sum_us));
            self.sample(&format!("{name}_count"), &[], journal.commits);
        }
        self.gauge(
            "tidegate_journal_disk_bytes",
            "Size of the journal on disk, spare segments included.",
            journal.disk_bytes,
        );
        self.gauge(
            "tidegate_journal_pending_records",
            "Records that are not on disk yet.",
            report.appended.0.saturating_sub(report.durable.0),
        );
        self.gauge(
            "tidegate_journal_durable_position",
            "Position of the last record on disk.",
            report.durable.0,
        );
        self.gauge(
            "tidegate_journal_oldest_position",
            "Position of the oldest record that is kept.",
            report.oldest.0,
        );
        self.gauge(
            "tidegate_state_disk_bytes",
            "Size of the state on disk.",
            report.state_disk_bytes,
        );
    }

    fn projector(&mut self, report: &Report) {
        let projector = &report.projector;
        self.gauge(
            "tidegate_projector_backlog_orders",
            "Orders at rest that are not archived yet: how far the projector lags.",
            projector.backlog,
        );
        self.counter("tidegate_projector_rows_total", "Orders archived.", projector.rows);
        self.counter(
            "tidegate_projector_flushes_total",
            "Flushes of the state.",
            projector.flushes,
        );
        self.gauge(
            "tidegate_projector_failed",
            "1 if the projector has stopped because the state can't be written.",
            u64::from(projector.failed),
        );
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// `bounds` are each bound as text, and the bucket end it stands for.
    fn histogram(
        &mut self,
        name: &str,
        machine: &str,
        spread: &Distribution,
        bounds: impl Iterator<Item = (String, u64)>,
        sum: String,
    ) {
        let bucket = format!("{name}_bucket");
        for (bound, below) in bounds {
            let labels: [(_, &dyn Display); 2] = [("machine", &machine), ("le", &bound)];
            self.sample(&bucket, &labels, spread.below(below));
        }
        let all = spread.count();
        self.sample(&bucket, &[("machine", &machine), ("le", &"+Inf")], all);
        self.sample(&format!("{name}_sum"), &[("machine", &machine)], sum);
        self.sample(&format!("{name}_count"), &[("machine", &machine)], all);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &dyn Display)], value: impl Display) {
        self.write(format_args!("{name}"));
        for (number, (label, text)) in labels.iter().enumerate() {
            let before = if number == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(&text.to_string())));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{close} {value}\n"));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.0.write_fmt(text);
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

/// Microseconds as seconds, exactly.
fn micros(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests;
