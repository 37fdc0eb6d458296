//! What tests of the library share: small stores in temporary folders, and short words for what a
//! host does with them. It asserts nothing of its own but that setting up works.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tempfile::TempDir;
use tidegate::{
    Adjustment, Builder, Intake, ItemView, ManualTime, NewOrder, Order, OrderId, OrderRejection,
    OrderState, PaymentEvent, Receipt, SkuPatch, Tidegate, UserOrders,
};

/// When the clocks of tests begin: 2026-01-01.
pub(crate) const BEGIN_MS: u64 = 1_767_225_600_000;

/// How long a test waits for something that comes by itself before it gives up: a guard against
/// hanging, not a promise about speed.
const PATIENCE: Duration = Duration::from_secs(60);

/// An open store with a clock that tests set.
pub(crate) struct Shop {
    folder: PathBuf,
    temporary: Option<TempDir>,
    pub(crate) time: Arc<ManualTime>,
    pub(crate) gate: Tidegate,
    /// What the next opening sets.
    pub(crate) intake: Option<Intake>,
}

/// A store with small files and more than one shard of each kind.
pub(crate) fn small(folder: &Path) -> Builder {
    Tidegate::builder(folder).segment_bytes(1 << 20).stock_shards(3).order_shards(2).arbiters(2)
}

/// Opens a small store.
pub(crate) async fn open(folder: &Path) -> Tidegate {
    small(folder).open().await.expect("the store opens")
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        Self { temporary: Some(folder), ..Self::at(&path).await }
    }

    /// In a folder that the test keeps.
    pub(crate) async fn at(folder: &Path) -> Self {
        Self::opened(folder.to_owned(), None, ManualTime::at_ms(BEGIN_MS), None).await
    }

    /// Where orders are taken in through a queue.
    pub(crate) async fn taking_in(intake: Intake) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, time) = (folder.path().to_owned(), ManualTime::at_ms(BEGIN_MS));
        Self::opened(path, Some(folder), time, Some(intake)).await
    }

    async fn opened(
        folder: PathBuf,
        temporary: Option<TempDir>,
        time: Arc<ManualTime>,
        intake: Option<Intake>,
    ) -> Self {
        let builder = small(&folder).time(Arc::clone(&time));
        let builder = intake.into_iter().fold(builder, Builder::intake);
        let gate = builder.open().await.expect("the store opens");
        Self { folder, temporary, time, gate, intake }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Closes in order and opens again.
    pub(crate) async fn reopened(self) -> Self {
        self.gate.close().await.expect("the store closes");
        self.open_again().await
    }

    /// Stops without closing, as a crash does, and opens again.
    pub(crate) async fn crashed(self) -> Self {
        self.open_again().await
    }

    async fn open_again(self) -> Self {
        let Self { folder, temporary, time, gate, intake } = self;
        drop(gate);
        Self::opened(folder, temporary, time, intake).await
    }

    /// Closes, and audits what is on disk.
    pub(crate) async fn audited(self) {
        self.gate.close().await.expect("the store closes");
        drop(self.gate);
        assert_sound(&self.folder);
    }

    /// Defines `sku` with `units` in stock, at a price of 100.
    pub(crate) async fn item(&self, sku: &str, units: i64) {
        let price = SkuPatch { price_minor: Some(Some(100)), ..SkuPatch::default() };
        self.item_with(sku, units, price).await;
    }

    pub(crate) async fn item_with(&self, sku: &str, units: i64, patch: SkuPatch) {
        self.gate.stock().define(sku, patch).await.expect("the SKU is defined");
        if units > 0 {
            let arrival = Adjustment::new(sku, units, "arrival");
            self.gate.stock().adjust(arrival, "arrival").await.expect("the stock arrives");
        }
    }

    pub(crate) async fn stock(&self, sku: &str) -> ItemView {
        self.gate.stock().get(sku).await.expect("the SKU is known")
    }

    /// On hand, held, allocated.
    pub(crate) async fn levels(&self, sku: &str) -> (u64, u64, u64) {
        let total = self.stock(sku).await.total;
        (total.on_hand, total.held, total.allocated)
    }

    pub(crate) async fn place(&self, order: NewOrder, key: &str) -> Receipt {
        self.gate.orders().place(order, key).await.expect("the order is accepted")
    }

    /// Why an order is refused.
    pub(crate) async fn refusal(&self, order: NewOrder, key: &str) -> OrderRejection {
        let error = self.gate.orders().place(order, key).await.expect_err("it must be refused");
        error.rejection().unwrap_or_else(|| panic!("no refusal: {error}")).clone()
    }

    /// Pays `amount_minor`, once per `event`.
    pub(crate) async fn pay(&self, order: OrderId, event: &str, amount_minor: u64) -> Order {
        let event = PaymentEvent::captured("bank", event, amount_minor);
        self.gate.orders().pay(order, event).await.expect("the payment is taken")
    }

    pub(crate) async fn get(&self, order: OrderId) -> Order {
        self.gate.orders().get(order).await.expect("the order is known")
    }

    /// Waits for a state that comes by itself.
    pub(crate) async fn until_state(&self, order: OrderId, state: OrderState) -> Order {
        eventually(&format!("{order} is {state}"), async || {
            let found = self.get(order).await;
            (found.state == state && found.open_ops.is_empty()).then_some(found)
        })
        .await
    }

    /// All that a caller can see of these SKUs and users.
    pub(crate) async fn picture(&self, skus: &[&str], users: &[&str]) -> Picture {
        let mut picture = Picture::default();
        for sku in skus {
            picture.0.push(self.stock(sku).await);
        }
        for user in users {
            picture.1.extend(orders_of(&self.gate, user, 100).await);
        }
        picture
    }
}

/// See [`Shop::picture`].
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Picture(Vec<ItemView>, Vec<Order>);

/// All orders of `user`, page by page, newest first.
pub(crate) async fn orders_of(gate: &Tidegate, user: &str, page: usize) -> Vec<Order> {
    let mut all = Vec::new();
    let mut after = None;
    loop {
        let UserOrders { orders, next } =
            gate.orders().by_user(user, after, page).await.expect("a page");
        assert!(orders.len() <= page);
        all.extend(orders);
        after = next;
        if after.is_none() {
            return all;
        }
    }
}

/// What comes of a future that is polled once. If that is all it takes, no other thread had a part
/// in it.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Asks until there is an answer, for what comes by itself and tells nobody.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Audits the closed store in `folder`; its checks must all pass.
pub(crate) fn assert_sound(folder: &Path) {
    let report = tidegate::audit(folder).expect("the audit runs");
    assert!(report.ok, "{report:#?}");
    assert!(!report.checks.is_empty());
}

/// The bytes of every file that a store keeps something in, by name. Spare segments hold nothing.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(folder).expect("inside").display().to_string();
            if path.is_dir() {
                folders.push(path);
            } else if !name.ends_with(".spare") {
                found.insert(name, std::fs::read(&path).expect("a file"));
            }
        }
    }
    found
}
