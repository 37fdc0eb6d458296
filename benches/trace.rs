//! A trace of real baskets, placed as fast as it goes: many lines an order, over many SKUs. Each
//! SKU has as many units as the whole trace wants, so all orders are accepted and nothing is left.
//! The format is that of `tidegate replay`; nothing is paid here.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufReader, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use flate2::read::MultiGzDecoder;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use tidegate::{Adjustment, NewOrder, SkuPatch, Tidegate};

use crate::{
    load::{Asked, Until, ask_many},
    row::Row,
    work::hashed,
};

const IN_FLIGHT: [u64; 2] = [64, 1_024];
const FILL_IN_FLIGHT: usize = 1_024;

/// An unpaid order must not expire while the trace goes on.
const HOLD_MS: u64 = 24 * 60 * 60 * 1_000;

/// The one day that comes with the project: too short for a figure to lean on.
pub(crate) fn bundled() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/orders-2017-02-04.csv.gz")
}

/// A line of the file; the columns that matter here.
#[derive(Deserialize)]
struct Line {
    order_ref: String,
    user: String,
    sku: String,
    quantity: u64,
    amount_minor: u64,
}

/// A trace in memory.
struct Trace {
    /// Each with its reference, which is its key.
    orders: Vec<(String, NewOrder)>,
    lines: u64,
    /// Units that are wanted of each SKU.
    units: HashMap<String, u64>,
}

impl Trace {
    fn read(file: &Path) -> Result<Self> {
        let open = || File::open(file).with_context(|| format!("reading {}", file.display()));
        let gzipped = file.extension().is_some_and(|ending| ending == "gz");
        let text: Box<dyn Read> = match gzipped {
            true => Box::new(MultiGzDecoder::new(BufReader::new(open()?))),
            false => Box::new(open()?),
        };
        let mut trace = Self { orders: Vec::new(), lines: 0, units: HashMap::new() };
        for line in csv::Reader::from_reader(text).into_deserialize() {
            let Line { order_ref, user, sku, quantity, amount_minor } = line?;
            if quantity == 0 {
                continue;
            }
            trace.lines += 1;
            *trace.units.entry(sku.clone()).or_default() += quantity;
            let order = match trace.orders.pop_if(|(last, _)| *last == order_ref) {
                Some((_, order)) => order,
                None => NewOrder::new(user).hold_ms(HOLD_MS),
            };
            trace.orders.push((order_ref, order.line_for(sku, quantity, amount_minor)));
        }
        Ok(trace)
    }
}

/// A row for each of [`IN_FLIGHT`].
pub(crate) async fn run(dir: &Path, file: &Path) -> Result<Vec<Row>> {
    let trace = Arc::new(Trace::read(file)?);
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        let mut row = round(dir, &trace, in_flight).await?;
        row.who = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.push(row);
    }
    Ok(rows)
}

async fn round(dir: &Path, trace: &Arc<Trace>, in_flight: u64) -> Result<Row> {
    let folder = tempfile::tempdir_in(dir)?;
    let gate = Tidegate::builder(folder.path()).open().await?;
    fill(&gate, trace).await?;
    let (of, from) = (gate.clone(), Arc::clone(trace));
    let place = move |n: u64| {
        let (gate, (key, order)) = (of.clone(), from.orders[n as usize].clone());
        async move { Ok(gate.orders().place(order, &key).await?.id) }
    };
    let orders = trace.orders.len() as u64;
    let asked: Asked<_> = ask_many(in_flight, Until::numbers(orders), place).await?;
    let mut row = Row::of("trace", "tidegate", "line").with_load(&asked, |_| true)?;
    let per_second = row.good_per_second;
    row.good_per_second *= trace.lines as f64 / orders.max(1) as f64;
    row.durability = "synced before the answer".to_owned();
    (row.skew, row.in_flight) = ("as sold".to_owned(), in_flight);
    let mut left = Vec::new();
    for sku in trace.units.keys() {
        left.push(gate.stock().get(sku).await?.total.available());
    }
    if left.iter().any(|left| *left != 0) {
        row.faults.push("what was sold is not what the trace wants".to_owned());
    }
    row.hash = format!("{:016x}", hashed(&[orders, trace.lines, left.len() as u64]));
    gate.close().await?;
    Ok(row.and("orders/s", per_second).and("lines an order", trace.lines as f64 / orders as f64))
}

async fn fill(gate: &Tidegate, trace: &Trace) -> Result<()> {
    ensure!(!trace.orders.is_empty(), "the trace has no orders");
    let fill = |(sku, units): (&String, &u64)| {
        let (sku, units) = (sku.clone(), *units);
        async move {
            gate.stock().define(&sku, SkuPatch::default()).await?;
            let delivery = Adjustment::new(sku, i64::try_from(units)?, "delivery");
            gate.stock().adjust(delivery, "delivery").await?;
            anyhow::Ok(())
        }
    };
    let filling = stream::iter(&trace.units).map(fill).buffer_unordered(FILL_IN_FLIGHT);
    filling.try_collect().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_gathered_into_orders_and_none_is_lost() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let head = "order_ref,placed_at,user,location,sku,quantity,amount_minor";
        let lines = "1,t,ann,s,tea,2,50\n1,t,ann,s,mug,0,9\n1,t,ann,s,mug,1,9\n2,t,bob,s,tea,3,7\n";
        std::fs::write(file.path(), format!("{head}\n{lines}")).unwrap();
        let trace = Trace::read(file.path()).unwrap();
        let ann = NewOrder::new("ann").hold_ms(HOLD_MS).line_for("tea", 2, 50);
        let bob = NewOrder::new("bob").hold_ms(HOLD_MS).line_for("tea", 3, 7);
        let expected = [("1".to_owned(), ann.line_for("mug", 1, 9)), ("2".to_owned(), bob)];
        assert_eq!(trace.orders, expected);
        assert_eq!((trace.lines, trace.units["tea"], trace.units["mug"]), (3, 5, 1));
    }
}
