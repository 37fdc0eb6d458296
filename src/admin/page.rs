//! The text format that Prometheus reads, version 0.0.4: families of samples, one after the other.
//! It knows how a figure is written, and not one figure.

use std::fmt::{Display, Write};

use crate::Distribution;

/// The content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Latencies are told for the doublings from 2^4 µs (16 µs) to 2^25 µs (34 s).
const LATENCY_US_EXPONENTS: std::ops::RangeInclusive<u32> = 4..=25;

/// The labels of a sample; values are escaped.
pub type Labels<'a> = [(&'a str, &'a dyn Display)];

/// A page of figures, to which a host may add its own.
#[derive(Default)]
pub struct Page(String);

impl Page {
    /// A page without figures.
    #[must_use]
    pub fn new() -> Self {
        Self(String::with_capacity(16 << 10))
    }

    /// What is written so far.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    /// A family of one sample that only grows. Its name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A family of one sample that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// Begins a family of this kind: `counter`, `gauge`, `histogram` or `summary`. Its samples
    /// come next, and nothing between them.
    pub fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// One of the histograms of a family, of values in microseconds, told in seconds.
    pub fn latencies(&mut self, name: &str, labels: &Labels<'_>, us: &Distribution) {
        let bounds = LATENCY_US_EXPONENTS.map(|exponent| {
            let below = 1_u64 << exponent;
            (micros(below), below)
        });
        self.histogram(name, labels, us, bounds, &micros(us.sum));
    }

    /// One of the histograms of a family. `bounds` are each bound as text, and the bucket end that
    /// it stands for.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &Labels<'_>,
        spread: &Distribution,
        bounds: impl Iterator<Item = (String, u64)>,
        sum: &dyn Display,
    ) {
        let bucket = format!("{name}_bucket");
        let mut count = |bound: &dyn Display, count: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
            self.sample(&bucket, &labels, count);
        };
        for (bound, below) in bounds {
            count(&bound, spread.below(below));
        }
        count(&"+Inf", spread.count());
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, spread.count());
    }

    /// One sample of the family that was begun last.
    pub fn sample(&mut self, name: &str, labels: &Labels<'_>, value: impl Display) {
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

/// Microseconds as seconds, exactly.
pub(super) fn micros(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
