//! Order traces: CSV files of what was bought, as `tidegate replay` reads them, plain or gzipped.
//! It streams and checks; it doesn't know what will be done with the orders.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
    str::FromStr,
};

use flate2::bufread::MultiGzDecoder;
use tidegate::{Location, Sku, UserId};

/// The columns, in this order.
pub(super) const COLUMNS: [&str; 7] =
    ["order_ref", "placed_at", "user", "location", "sku", "quantity", "amount_minor"];

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceLine {
    /// What was bought.
    pub sku: Sku,
    /// Units, at least 1.
    pub quantity: u64,
    /// The price of the whole line, in minor units.
    pub amount_minor: u64,
}

/// One order; `lines` is empty if all of its lines had quantity 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TraceOrder {
    /// The trace's own name for it.
    pub reference: String,
    /// Who bought.
    pub user: UserId,
    /// Its lines of quantity 1 and more.
    pub lines: Vec<TraceLine>,
    /// Its lines of quantity 0, which are only counted.
    pub skipped_lines: u64,
}

/// A trace that can't be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TraceError {
    /// The file can't be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The trace.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// A line is not what it should be.
    #[error("{}, line {line}: {what}. Mend the line, or leave the order out", path.display())]
    Line {
        /// The trace.
        path: PathBuf,
        /// The line's number, from 1 (the header).
        line: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads a trace order by order.
pub(super) struct Trace {
    path: PathBuf,
    rows: csv::Reader<Box<dyn Read + Send>>,
    row: csv::StringRecord,
    /// The first row of the next order is in `row` already.
    ahead: bool,
    seen: HashSet<u64>,
}

impl Trace {
    /// Opens `path`; gzip is told by its first bytes, whatever the name.
    ///
    /// # Errors
    /// The file can't be read, or its header is not [`COLUMNS`].
    pub(super) fn open(path: &Path) -> Result<Self, TraceError> {
        let fail = |source| TraceError::Io { path: path.to_owned(), source };
        let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(fail)?);
        let gzipped = io::BufRead::fill_buf(&mut file).map_err(fail)?.starts_with(&[0x1f, 0x8b]);
        let bytes: Box<dyn Read + Send> =
            if gzipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Self::read(path, bytes)
    }

    /// Reads a trace from `bytes`; `name` stands for its path in errors.
    ///
    /// # Errors
    /// The header is not [`COLUMNS`].
    pub(super) fn read(name: &Path, bytes: Box<dyn Read + Send>) -> Result<Self, TraceError> {
        let rows = csv::ReaderBuilder::new().has_headers(true).from_reader(bytes);
        let (row, seen) = (csv::StringRecord::new(), HashSet::new());
        let mut trace = Self { path: name.to_owned(), rows, row, ahead: false, seen };
        let header = trace.rows.headers().map(|found| found.iter().eq(COLUMNS));
        match header {
            Ok(true) => Ok(trace),
            Ok(false) => Err(trace.line(1, format!("the header must be {}", COLUMNS.join(",")))),
            Err(error) => Err(trace.csv(error)),
        }
    }

    fn line(&self, line: u64, what: String) -> TraceError {
        TraceError::Line { path: self.path.clone(), line, what }
    }

    fn csv(&self, error: csv::Error) -> TraceError {
        let line = error.position().map_or(1, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(source) => TraceError::Io { path: self.path.clone(), source },
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                self.line(line, format!("it has {len} columns instead of {expected_len}"))
            }
            csv::ErrorKind::Utf8 { .. } => self.line(line, "it is not UTF-8".to_owned()),
            other => self.line(line, format!("{other:?}")),
        }
    }

    fn next_order(&mut self) -> Result<Option<TraceOrder>, TraceError> {
        if !self.ahead && !self.advance()? {
            return Ok(None);
        }
        let reference = self.row[0].to_owned();
        if !self.seen.insert(hash(&reference)) {
            return Err(self.at_row(format!(
                "order {reference} has ended before: its lines must be contiguous"
            )));
        }
        let user = self.field(2)?;
        let mut order = TraceOrder { reference, user, lines: Vec::new(), skipped_lines: 0 };
        loop {
            if self.row[2] != *order.user.as_str() {
                return Err(self.at_row(format!("order {} has two users", order.reference)));
            }
            let (quantity, amount_minor) = (self.number(5)?, self.number(6)?);
            let _: Location = self.field(3)?;
            let sku = self.field(4)?;
            if quantity == 0 {
                order.skipped_lines += 1;
            } else {
                order.lines.push(TraceLine { sku, quantity, amount_minor });
            }
            self.ahead = self.advance()?;
            if !self.ahead || self.row[0] != *order.reference {
                return Ok(Some(order));
            }
        }
    }

    fn advance(&mut self) -> Result<bool, TraceError> {
        self.rows.read_record(&mut self.row).map_err(|error| self.csv(error))
    }

    fn at_row(&self, what: String) -> TraceError {
        self.line(self.row.position().map_or(0, csv::Position::line), what)
    }

    fn field<T: FromStr<Err: std::fmt::Display>>(&self, column: usize) -> Result<T, TraceError> {
        self.row[column].parse().map_err(|error: T::Err| self.at_row(error.to_string()))
    }

    fn number(&self, column: usize) -> Result<u64, TraceError> {
        let text = &self.row[column];
        text.parse().map_err(|_| {
            self.at_row(format!("{} must be a whole number, not {text:?}", COLUMNS[column]))
        })
    }
}

impl Iterator for Trace {
    type Item = Result<TraceOrder, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_order().transpose()
    }
}

/// What a whole trace holds, and the proof that all of it can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TraceSummary {
    /// Orders with at least one line of quantity 1 or more.
    pub orders: u64,
    /// Orders with none.
    pub skipped_orders: u64,
    /// Lines of quantity 0.
    pub skipped_lines: u64,
    /// Units of each SKU over the whole trace.
    pub units: HashMap<Sku, u64>,
}

impl TraceSummary {
    /// Reads `trace` to its end; `progress` is told of each order.
    ///
    /// # Errors
    /// The first line that can't be read.
    pub(super) fn of(trace: Trace, mut progress: impl FnMut()) -> Result<Self, TraceError> {
        let mut summary = Self::default();
        for order in trace {
            let order = order?;
            progress();
            summary.skipped_lines += order.skipped_lines;
            if order.lines.is_empty() {
                summary.skipped_orders += 1;
                continue;
            }
            summary.orders += 1;
            for line in order.lines {
                *summary.units.entry(line.sku).or_default() += line.quantity;
            }
        }
        Ok(summary)
    }

    /// The stock that each SKU starts with: `percent` of its units, rounded up. In order of SKU.
    #[must_use]
    pub(super) fn stock(&self, percent: u32) -> Vec<(Sku, u64)> {
        let start = |units: u64| (u128::from(units) * u128::from(percent)).div_ceil(100);
        let mut stock: Vec<_> = self
            .units
            .iter()
            .map(|(sku, units)| (sku.clone(), u64::try_from(start(*units)).unwrap_or(u64::MAX)))
            .collect();
        stock.sort();
        stock
    }
}

fn hash(text: &str) -> u64 {
    siphasher::sip::SipHasher13::new().hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<TraceOrder>, TraceError> {
        let bytes = format!("{}\n{text}", COLUMNS.join(","));
        Trace::read(Path::new("t.csv"), Box::new(io::Cursor::new(bytes)))?.collect()
    }

    #[test]
    fn lines_are_gathered_into_orders() {
        let orders = read(
            "1,2017-01-01T11:53:26Z,u-1,s-1,p-1,2,50\n1,2017-01-01T11:53:26Z,u-1,s-1,p-2,0,9\n\
             2,2017-01-01T11:53:27Z,u-2,s-1,p-1,0,0\n",
        )
        .unwrap();
        assert_eq!(orders.len(), 2);
        assert_eq!((orders[0].lines.len(), orders[0].skipped_lines), (1, 1));
        assert_eq!((orders[1].lines.len(), orders[1].skipped_lines), (0, 1));
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let good = "1,2017-01-01T11:53:26Z,u-1,s-1,p-1,2,50\n";
        for (bad, what) in [
            ("2,t,u-1,s-1,p-1,-1,50", "line 3: quantity must be a whole number, not \"-1\""),
            ("2,t,u-1,s-1,p-1,1,x", "line 3: amount_minor must be a whole number"),
            ("2,t,u-1,s-1,p-1,1", "line 3: it has 6 columns instead of 7"),
            ("2,t,u-1,s-1,p 1,1,1", "line 3: sku must be"),
            ("2,t,,s-1,p-1,1,1", "line 3: user must be"),
            ("1,t,u-2,s-1,p-1,1,1", "line 3: order 1 has two users"),
            ("2,t,u-1,s-1,p-1,1,1\n1,t,u-1,s-1,p-1,1,1", "line 4: order 1 has ended before"),
        ] {
            let error = read(&format!("{good}{bad}\n")).unwrap_err().to_string();
            assert!(error.contains(what), "{bad} gave {error}");
        }
    }

    #[test]
    fn starting_stock_is_rounded_up() {
        let units = HashMap::from([(Sku::new("a").unwrap(), 11), (Sku::new("b").unwrap(), 1)]);
        let summary = TraceSummary { units, ..TraceSummary::default() };
        let stock: Vec<_> = summary.stock(80).into_iter().map(|(_, units)| units).collect();
        assert_eq!(stock, [9, 1]);
    }
}
