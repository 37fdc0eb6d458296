//! Views, as a host has them: a view of a host's own that follows, is rebuilt, stops at its own
//! faults, and never shows less than what a caller has written. What must come of random work is
//! in `views_sales`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidegate::{
    Builder, Event, EventData, Fact, NewOrder, OpenError, OrderState, Position, Rows, Tidegate,
    View, ViewCondition, ViewError, ViewFault, ViewReader, machine::Timestamp,
};

use crate::shop::{eventually, small};

/// A guard against hanging, not a promise about speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a user has ever paid for, and how many orders are confirmed.
#[derive(Default)]
struct Buyers {
    /// Panics at the next event while this is set.
    panics: Arc<AtomicBool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Buyer {
    placed: u64,
    confirmed: u64,
}

impl Buyers {
    fn change(
        rows: &mut Rows<'_, Buyer>,
        user: &str,
        by: impl FnOnce(&mut Buyer),
    ) -> Result<(), ViewFault> {
        let mut buyer = rows.get(format!("u-{user}"))?.unwrap_or_default();
        by(&mut buyer);
        rows.put(format!("u-{user}"), &buyer)
    }

    /// Whose an order is, as a row of its own: a count of 0 under a key that names the user.
    fn key(order: impl ToString) -> String {
        format!("o-{}", order.to_string())
    }
}

/// Rows of orders hold the number in the user's name.
impl View for Buyers {
    const NAME: &'static str = "buyers";
    const VERSION: u32 = 1;
    type Row = Buyer;

    fn apply(&self, event: &Event, rows: &mut Rows<'_, Buyer>) -> Result<(), ViewFault> {
        assert!(!self.panics.load(Ordering::SeqCst), "as it was told to");
        match &event.data {
            EventData::OrderPlaced { order, user, .. } => {
                let number = user.as_str().trim_start_matches("user-").parse()?;
                rows.put(Self::key(order), &Buyer { placed: number, confirmed: 0 })?;
                Self::change(rows, user.as_str(), |buyer| buyer.placed += 1)
            }
            EventData::OrderConfirmed { order } => {
                let row = rows.get(Self::key(order))?;
                let number = row.ok_or_else(|| ViewFault::new("an unknown order"))?.placed;
                rows.remove(Self::key(order))?;
                Self::change(rows, &format!("user-{number}"), |buyer| buyer.confirmed += 1)
            }
            _ => Ok(()),
        }
    }

    fn load(
        &self,
        fact: &Fact,
        _at: Timestamp,
        rows: &mut Rows<'_, Buyer>,
    ) -> Result<(), ViewFault> {
        let Fact::Order(order) = fact else { return Ok(()) };
        let confirmed = matches!(order.state, OrderState::Confirmed | OrderState::Completed);
        if !confirmed {
            let number = order.user.as_str().trim_start_matches("user-").parse()?;
            rows.put(Self::key(order.id), &Buyer { placed: number, confirmed: 0 })?;
        }
        Self::change(rows, order.user.as_str(), |buyer| {
            buyer.placed += 1;
            buyer.confirmed += u64::from(confirmed);
        })
    }
}

/// The same rows under another version, which can begin with the whole journal only.
struct Later;

impl View for Later {
    const NAME: &'static str = "buyers";
    const VERSION: u32 = 2;
    type Row = u64;

    fn apply(&self, event: &Event, rows: &mut Rows<'_, u64>) -> Result<(), ViewFault> {
        let EventData::OrderPlaced { user, .. } = &event.data else { return Ok(()) };
        let count = rows.get(user.as_str())?.unwrap_or(0);
        rows.put(user.as_str(), &(count + 1))
    }
}

async fn open(builder: Builder) -> Tidegate {
    builder.open().await.expect("the store opens")
}

async fn stocked(gate: &Tidegate) {
    gate.stock().define("tea", tidegate::SkuPatch::default().price_minor(5)).await.unwrap();
    let arrival = tidegate::Adjustment::new("tea", 1_000_000, "arrival");
    gate.stock().adjust(arrival, "arrival").await.unwrap();
}

/// `orders` orders of five users, each paid.
async fn sell(gate: &Tidegate, run: &str, orders: u64) {
    for number in 0..orders {
        let order = NewOrder::new(format!("user-{}", number % 5)).line("tea", 1);
        let order = gate.orders().place(order, &format!("{run}-{number}")).await.unwrap();
        let paid = tidegate::PaymentEvent::captured("bank", "1", 5);
        gate.orders().pay(order.id, paid).await.unwrap();
    }
}

async fn caught_up<V: View>(gate: &Tidegate) -> ViewReader<V> {
    let reader = gate.view::<V>().expect("the view was added");
    reader.at_least(gate.position(), PATIENCE).await.unwrap();
    reader
}

/// Makes the journal longer until its beginning is trimmed.
pub(crate) async fn trim(gate: &Tidegate) {
    gate.stock().define("filler", tidegate::SkuPatch::default()).await.unwrap();
    let (oldest, reason) = (gate.report().oldest, "x".repeat(200));
    while gate.report().oldest == oldest {
        let begin = gate.position();
        let mut all = tokio::task::JoinSet::new();
        for number in 0..500 {
            let (gate, key) = (gate.clone(), format!("{begin}-{number}"));
            let more = tidegate::Adjustment::new("filler", 1, reason.clone());
            all.spawn(async move { gate.stock().adjust(more, &key).await.unwrap() });
        }
        all.join_all().await;
    }
}

fn buyer(placed: u64, confirmed: u64) -> Buyer {
    Buyer { placed, confirmed }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_shows_what_its_reader_has_written_and_goes_on_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for run in 1..=3_u64 {
        let gate = open(small(folder.path()).view(Buyers::default())).await;
        if run == 1 {
            stocked(&gate).await;
        }
        sell(&gate, &format!("run-{run}"), 5).await;
        let order = NewOrder::new("user-4").line("tea", 1);
        let receipt = gate.orders().place(order, &format!("open-{run}")).await.unwrap();
        let buyers = caught_up::<Buyers>(&gate).await;
        assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(run, run)));
        assert_eq!(buyers.get("u-user-4").await.unwrap(), Some(buyer(2 * run, run)));
        let key = Buyers::key(receipt.id);
        assert_eq!(buyers.get(&key).await.unwrap(), Some(buyer(4, 0)));
        assert_eq!(buyers.get("u-nobody").await.unwrap(), None);
        let page = buyers.scan("u-", None, 3).await.unwrap();
        assert_eq!((page.rows.len(), page.next.as_deref()), (3, Some(&b"u-user-2"[..])));
        let page = buyers.scan("u-", page.next.as_deref(), 3).await.unwrap();
        assert_eq!((page.rows.len(), page.next), (2, None));
        assert!(page.position > Position::ZERO);
        let report = buyers.report();
        assert_eq!((report.rows, report.condition), (5 + run, ViewCondition::Following));
        // The second time it is only dropped: the third begins where that left it.
        if run == 1 {
            gate.close().await.unwrap();
            assert!(matches!(buyers.get("u-user-1").await, Err(ViewError::Closed)));
            let late = buyers.at_least(Position(1), PATIENCE).await;
            assert!(matches!(late, Err(ViewError::Closed)), "{late:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_ends_in_time_and_a_foreign_position_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let gate = open(small(folder.path()).view(Buyers::default())).await;
    let buyers = gate.view::<Buyers>().unwrap();
    assert!(gate.view::<Later>().is_none());
    let ahead = buyers.at_least(Position(gate.position().0 + 1), PATIENCE).await;
    assert!(matches!(ahead, Err(ViewError::Ahead { .. })), "{ahead:?}");
    stocked(&gate).await;
    buyers.at_least(gate.position(), PATIENCE).await.unwrap();
    assert_eq!(buyers.report().lag_records, 0);
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_stops_the_view_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let view = Buyers::default();
    let panics = Arc::clone(&view.panics);
    let gate = open(small(folder.path()).view(view)).await;
    stocked(&gate).await;
    sell(&gate, "before", 5).await;
    let buyers = caught_up::<Buyers>(&gate).await;
    panics.store(true, Ordering::SeqCst);
    sell(&gate, "after", 5).await;
    let stopped = buyers.at_least(gate.position(), PATIENCE).await.unwrap_err();
    assert!(stopped.to_string().contains("it panicked: as it was told to"), "{stopped}");
    assert!(matches!(stopped, ViewError::Stopped { name: "buyers", .. }));
    // What it had can be read; a rebuild that meets the same fault changes nothing.
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(1, 1)));
    let failed = buyers.rebuild().finished().await;
    assert!(matches!(failed, Err(ViewError::Stopped { .. })), "{failed:?}");
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(1, 1)));
    assert_eq!(buyers.report().failures, 2);
    panics.store(false, Ordering::SeqCst);
    let position = buyers.rebuild().finished().await.unwrap();
    assert!(position >= gate.position(), "everything was durable before it was asked for");
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(2, 2)));
    sell(&gate, "later", 5).await;
    let buyers = caught_up::<Buyers>(&gate).await;
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(3, 3)));
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_built_and_the_old_rows_go() {
    let folder = tempfile::tempdir().unwrap();
    let gate = open(small(folder.path()).view(Buyers::default())).await;
    stocked(&gate).await;
    sell(&gate, "one", 10).await;
    caught_up::<Buyers>(&gate).await;
    gate.close().await.unwrap();
    drop(gate);
    let stored = tidegate::stored_views(folder.path()).unwrap();
    assert_eq!((stored.len(), stored[0].name.as_str()), (1, "buyers"));
    assert_eq!((stored[0].version, stored[0].rows, stored[0].rebuilding), (Some(1), 5, false));

    let gate = open(small(folder.path()).view(Later)).await;
    let later = caught_up::<Later>(&gate).await;
    assert_eq!(later.get("user-1").await.unwrap(), Some(2));
    assert_eq!(later.scan("", None, 99).await.unwrap().rows.len(), 5);
    gate.close().await.unwrap();
    drop(gate);
    let stored = tidegate::stored_views(folder.path()).unwrap();
    assert_eq!((stored[0].version, stored[0].rows), (Some(2), 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_take_turns_over_crashes() {
    const ORDERS: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let gate = open(small(folder.path()).view(Buyers::default())).await;
    stocked(&gate).await;
    let mut all = tokio::task::JoinSet::new();
    for number in 0..ORDERS {
        let (gate, order) = (gate.clone(), NewOrder::new("user-1").line("tea", 1));
        all.spawn(async move { gate.orders().place(order, &format!("{number}")).await.unwrap() });
    }
    all.join_all().await;
    caught_up::<Buyers>(&gate).await;
    drop(gate);
    for _ in 0..3 {
        let gate = open(small(folder.path()).view(Later)).await;
        let later = caught_up::<Later>(&gate).await;
        assert_eq!(later.get("user-1").await.unwrap(), Some(ORDERS));
        // Wherever the deleting of the old rows is.
        drop(gate);
        let gate = open(small(folder.path()).view(Buyers::default())).await;
        let buyers = caught_up::<Buyers>(&gate).await;
        let orders = buyers.scan("o-", None, 1_000).await.unwrap().rows.len() as u64;
        assert_eq!((orders, buyers.report().rows), (ORDERS, ORDERS + 1));
        drop(gate);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_views_of_one_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let gate = open(small(folder.path()).view(Buyers::default())).await;
    stocked(&gate).await;
    sell(&gate, "one", 5).await;
    caught_up::<Buyers>(&gate).await;
    gate.close().await.unwrap();
    drop(gate);
    for both in [
        small(folder.path()).view(Later).view(Buyers::default()),
        small(folder.path()).view(Buyers::default()).view(Later),
    ] {
        let Err(error) = both.open().await else { panic!("it opened") };
        assert!(matches!(error, OpenError::ViewTaken { name: "buyers" }), "{error}");
    }
    // The rows from before are as they were.
    let gate = open(small(folder.path()).view(Buyers::default())).await;
    let buyers = caught_up::<Buyers>(&gate).await;
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(1, 1)));
    assert_eq!(buyers.report().builds, 0);
    gate.close().await.unwrap();
}

/// How often the stock of a SKU was adjusted. Takes nothing in while this is set.
#[derive(Default)]
struct Adjusted(Arc<AtomicBool>);

impl View for Adjusted {
    const NAME: &'static str = "adjusted";
    const VERSION: u32 = 1;
    type Row = u64;

    fn apply(&self, event: &Event, rows: &mut Rows<'_, u64>) -> Result<(), ViewFault> {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let EventData::StockAdjusted { sku, .. } = &event.data else { return Ok(()) };
        let count = rows.get(sku.as_str())?.unwrap_or(0);
        rows.put(sku.as_str(), &(count + 1))
    }
}

async fn adjusted(gate: &Tidegate, run: &str, times: u64) {
    let mut all = tokio::task::JoinSet::new();
    for number in 0..times {
        let (gate, key) = (gate.clone(), format!("{run}-{number}"));
        let more = tidegate::Adjustment::new("tea", 1, "more");
        all.spawn(async move { gate.stock().adjust(more, &key).await.unwrap() });
    }
    all.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_read_once_they_hold_what_there_was_when_they_were_asked_for() {
    const BEFORE: u64 = 2_000;
    let folder = tempfile::tempdir().unwrap();
    let gate = open(small(folder.path())).await;
    gate.stock().define("tea", tidegate::SkuPatch::default()).await.unwrap();
    adjusted(&gate, "before", BEFORE).await;
    gate.close().await.unwrap();
    drop(gate);

    let gate = open(small(folder.path()).view(Adjusted::default())).await;
    let reader = gate.view::<Adjusted>().unwrap();
    let first = eventually("it is built", async || match reader.get("tea").await {
        Err(ViewError::Building { .. }) => None,
        read => Some(read.unwrap()),
    });
    assert_eq!(first.await, Some(BEFORE));
    for run in 1..=5 {
        adjusted(&gate, &run.to_string(), 100).await;
        let asked = gate.position();
        let mut rebuild = reader.rebuild();
        assert!(reader.report().rebuilding || reader.report().builds > run);
        assert!(rebuild.finished().await.unwrap() >= asked);
        assert_eq!(reader.get("tea").await.unwrap(), Some(BEFORE + 100 * run));
        assert!(!reader.report().rebuilding);
    }
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_was_noted_is_done_over_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let view = Adjusted::default();
    let waits = Arc::clone(&view.0);
    let gate = open(small(folder.path()).view(view)).await;
    gate.stock().define("tea", tidegate::SkuPatch::default()).await.unwrap();
    adjusted(&gate, "before", 100).await;
    caught_up::<Adjusted>(&gate).await;
    waits.store(true, Ordering::SeqCst);
    let mut rebuild = gate.rebuild_view("adjusted").unwrap();
    rebuild.noted().await.unwrap();
    rebuild.noted().await.unwrap();
    std::thread::scope(|scope| {
        // Nothing is closed; what was noted is all that is left.
        scope.spawn(|| drop(gate));
        // It has begun by then: else the view would go on, and be done before.
        std::thread::sleep(Duration::from_millis(500));
        waits.store(false, Ordering::SeqCst);
    });
    assert!(rebuild.finished().await.is_err());

    let gate = open(small(folder.path()).view(Adjusted::default())).await;
    let reader = caught_up::<Adjusted>(&gate).await;
    eventually("it is rebuilt", async || (reader.report().builds == 1).then_some(())).await;
    assert_eq!(reader.get("tea").await.unwrap(), Some(100));
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_of_new_rows_leaves_the_old_ones_following() {
    let folder = tempfile::tempdir().unwrap();
    let view = Buyers::default();
    let panics = Arc::clone(&view.panics);
    let gate = open(small(folder.path()).view(view)).await;
    stocked(&gate).await;
    sell(&gate, "before", 5).await;
    let buyers = caught_up::<Buyers>(&gate).await;
    // Only the new rows meet an event meanwhile.
    panics.store(true, Ordering::SeqCst);
    let failed = buyers.rebuild().finished().await;
    assert!(matches!(failed, Err(ViewError::Stopped { .. })), "{failed:?}");
    panics.store(false, Ordering::SeqCst);
    assert_eq!(buyers.report().condition, ViewCondition::Following);
    sell(&gate, "after", 5).await;
    let buyers = caught_up::<Buyers>(&gate).await;
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(2, 2)));
    assert_eq!((buyers.report().failures, buyers.report().rebuilding), (1, false));
    gate.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_needs_the_whole_journal_says_so_and_one_that_loads_begins_with_what_is_there()
{
    let folder = tempfile::tempdir().unwrap();
    let trimmed = || small(folder.path()).snapshot_every_bytes(1 << 20).events_retained_bytes(0);
    let gate = open(trimmed()).await;
    stocked(&gate).await;
    sell(&gate, "one", 20).await;
    trim(&gate).await;
    gate.close().await.unwrap();
    drop(gate);

    let gate = open(trimmed().view(Later)).await;
    let later = gate.view::<Later>().unwrap();
    let stopped = eventually("it has stopped", async || {
        let condition = later.report().condition;
        matches!(condition, ViewCondition::Stopped(_)).then_some(condition)
    });
    assert!(format!("{:?}", stopped.await).contains("the journal was trimmed"));
    assert!(matches!(later.get("user-1").await, Err(ViewError::Stopped { .. })));
    gate.close().await.unwrap();
    drop(gate);

    let gate = open(trimmed().view(Buyers::default())).await;
    sell(&gate, "two", 5).await;
    let buyers = caught_up::<Buyers>(&gate).await;
    assert_eq!(buyers.get("u-user-1").await.unwrap(), Some(buyer(5, 5)));
    assert_eq!(buyers.report().rows, 5);
    gate.close().await.unwrap();
}
