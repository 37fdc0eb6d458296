//! Order traces, read and made without the program's own reader, and the plain sequential model
//! that a strictly ordered replay must match.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::{program::count, seed::Random};

/// Bounds of one order, from the contract.
const LINES_MAX: usize = 256;
const UNITS_MAX: u64 = 1_000_000;

pub(crate) const HEADER: &str = "order_ref,placed_at,user,location,sku,quantity,amount_minor";

/// One order of a trace.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceOrder {
    pub(crate) reference: String,
    pub(crate) user: String,
    /// SKU and units of its lines of 1 and more.
    pub(crate) lines: Vec<(String, u64)>,
    pub(crate) empty_lines: u64,
}

/// What a sequential replay of a trace gives.
#[derive(Debug, Default)]
pub(crate) struct Model {
    counts: BTreeMap<&'static str, u64>,
    /// Units that each SKU starts with.
    pub(crate) start: BTreeMap<String, u64>,
    /// Units that are left of each SKU.
    pub(crate) left: BTreeMap<String, u64>,
}

/// One real day, which comes with the examples.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/orders-2017-02-04.csv.gz")
}

/// Reads a plain or gzipped trace; no field of these has a comma or a quote.
pub(crate) fn read(path: &Path) -> Vec<TraceOrder> {
    let bytes = fs::read(path).expect("the trace is there");
    let mut text = String::new();
    if path.extension().is_some_and(|suffix| suffix == "gz") {
        let mut plain = flate2::read::MultiGzDecoder::new(&*bytes);
        plain.read_to_string(&mut text).expect("gzipped text");
    } else {
        text = String::from_utf8(bytes).expect("text");
    }
    let mut orders: Vec<TraceOrder> = Vec::new();
    for row in text.lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        let [reference, _, user, _, sku, units, _] = fields[..] else { panic!("{row}") };
        if orders.last().is_none_or(|order| order.reference != reference) {
            let (reference, user) = (reference.to_owned(), user.to_owned());
            orders.push(TraceOrder { reference, user, ..TraceOrder::default() });
        }
        let order = orders.last_mut().expect("just pushed");
        match units.parse().expect("units") {
            0 => order.empty_lines += 1,
            units => order.lines.push((sku.to_owned(), units)),
        }
    }
    orders
}

/// Sells `orders` one after the other from `percent` of what they ask for.
pub(crate) fn model(orders: &[TraceOrder], percent: u64) -> Model {
    let mut model = Model::default();
    for (sku, units) in orders.iter().flat_map(|order| &order.lines) {
        *model.start.entry(sku.clone()).or_default() += units;
    }
    model.start.values_mut().for_each(|units| *units = (*units * percent).div_ceil(100));
    model.left = model.start.clone();
    let mut add = |field, units| *model.counts.entry(field).or_default() += units;
    for order in orders {
        add("skipped_lines", order.empty_lines);
        if order.lines.is_empty() {
            add("skipped_orders", 1);
            continue;
        }
        add("orders", 1);
        let mut wanted: BTreeMap<&String, u64> = BTreeMap::new();
        order.lines.iter().for_each(|(sku, units)| *wanted.entry(sku).or_default() += units);
        if order.lines.len() > LINES_MAX || wanted.values().any(|units| *units > UNITS_MAX) {
            add("rejected_other", 1);
        } else if wanted.iter().any(|(sku, units)| model.left[*sku] < *units) {
            add("rejected_sold_out", 1);
        } else {
            add("accepted", 1);
            add("units_sold", wanted.values().sum());
            for (sku, units) in wanted {
                *model.left.get_mut(sku).expect("every SKU has a start") -= units;
            }
        }
    }
    model
}

impl Model {
    /// One of the counts that a replay prints.
    pub(crate) fn count(&self, field: &str) -> u64 {
        self.counts.get(field).copied().unwrap_or(0)
    }

    /// That a replay printed exactly these counts.
    pub(crate) fn assert_matches(&self, report: &Value) {
        for field in [
            "orders",
            "skipped_orders",
            "skipped_lines",
            "accepted",
            "rejected_sold_out",
            "rejected_other",
            "units_sold",
        ] {
            assert_eq!(count(report, field), self.count(field), "{field}: {report}");
        }
        assert_eq!(report["audit"]["ok"], true, "{report}");
    }
}

/// What a made trace looks like.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) orders: u64,
    pub(crate) skus: u64,
    pub(crate) users: u64,
    pub(crate) lines_max: u64,
}

/// Writes a trace of that shape to `path`: multi-line orders on few SKUs, some of them named twice
/// in one order, some lines of quantity 0.
pub(crate) fn make(path: &Path, shape: Shape, random: &mut Random) -> Vec<TraceOrder> {
    let mut text = format!("{HEADER}\n");
    for order in 0..shape.orders {
        let user = random.between(0, shape.users);
        for _ in 0..random.between(1, shape.lines_max + 1) {
            let (sku, units) = (random.between(0, shape.skus), random.between(0, 4));
            let amount = random.between(0, 10_000);
            let row = format!("r-{order},2020-02-02T02:02:02Z,u-{user},l-{sku},s-{sku}");
            writeln!(text, "{row},{units},{amount}").expect("a string takes all");
        }
    }
    fs::write(path, text).expect("the trace is written");
    read(path)
}
