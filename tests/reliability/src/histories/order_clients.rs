//! Clients that change the same few orders at the same time, and the histories of those orders.
//! Between their calls they sometimes wait long enough for an order to leave memory.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate::{
    Adjustment, IdempotencyError, NewOrder, OrderError, OrderId, OrderRejection, PaymentEvent,
    SkuPatch, Units,
};

use super::{
    Tally,
    checker::Entry,
    order::{Change, Money, No, State, Step, TOTAL_MINOR, UNITS, View},
    store::{Caller, Failed, Handles, sorted},
};

/// Keys that clients share, so that they meet each other's.
const KEYS: u32 = 4;

/// The projector moves orders at rest after 100 ms.
const LONG_WAIT_MS: u64 = 150;

/// An order that clients change.
pub(crate) struct Changed {
    id: OrderId,
    sku: String,
    calls: AtomicUsize,
    pub(crate) history: Mutex<Vec<Entry<Step>>>,
}

impl Changed {
    /// Places an order for a SKU of its own.
    pub(crate) async fn new(caller: &mut Caller, sku: String) -> anyhow::Result<Self> {
        let price = SkuPatch::default().price_minor(TOTAL_MINOR / UNITS);
        let (named, price) = (&sku, &price);
        let define =
            |to: Handles| async move { sorted(to.stock.define(named, price.clone()).await) };
        caller.call(define, |_| {}).await?.answer?;
        let arrive = |to: Handles| async move {
            let arrival = Adjustment::new(named, UNITS as i64, "arrival");
            sorted(to.stock.adjust(arrival, "arrival").await)
        };
        caller.call(arrive, |_| {}).await?.answer?;
        let place = |to: Handles| async move {
            let order = NewOrder::new("ada").line(named, UNITS);
            sorted(to.orders.place(order, named).await)
        };
        let id = caller.call(place, |_| {}).await?.answer?.id;
        Ok(Self { id, sku, calls: AtomicUsize::new(0), history: Mutex::default() })
    }

    /// A call is one, two or three steps between the same moments.
    fn note(&self, client: usize, steps: &[Step], began: u64, ended: Option<u64>) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let mut follows = None;
        for step in steps {
            history.push(Entry { step: *step, client, began, ended, follows });
            follows = Some(history.len() - 1);
        }
    }
}

/// One client asks `calls` things of orders drawn from `orders`.
pub(crate) async fn client(
    mut caller: Caller,
    orders: &[Changed],
    mut luck: fastrand::Rng,
    calls: u64,
) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..calls {
        let order = &orders[luck.usize(..orders.len())];
        match luck.u8(..12) {
            0 => tokio::time::sleep(Duration::from_millis(LONG_WAIT_MS)).await,
            1..4 => show(&mut caller, order).await?,
            _ => change(&mut caller, order, draw(&mut luck), &mut tally).await?,
        }
    }
    Ok(tally)
}

fn draw(luck: &mut fastrand::Rng) -> Change {
    let key = luck.u32(..KEYS);
    // What a key asks for follows from the key, so that a repeat is one.
    let units = 1 + u64::from(key % 2);
    match luck.u8(..10) {
        0..5 => {
            let event = luck.u32(..5);
            let (money, amount_minor) = match event {
                0 => (Money::In, TOTAL_MINOR),
                1 | 2 => (Money::In, TOTAL_MINOR / 2),
                3 => (Money::Back, TOTAL_MINOR / 3),
                // Told with different amounts, so that the second is a conflict.
                _ => (Money::In, TOTAL_MINOR + luck.u64(..2)),
            };
            Change::Pay { event, money, amount_minor }
        }
        5 => Change::Cancel { key },
        6..9 => Change::Fulfil { key, units },
        _ => Change::TakeBack { key, units },
    }
}

async fn show(caller: &mut Caller, order: &Changed) -> anyhow::Result<()> {
    let get = |to: Handles| async move {
        match sorted(to.orders.get(order.id).await)? {
            Ok(found) => Ok(view(&found)),
            Err(no) => Err(Failed::Wrong(no.to_string())),
        }
    };
    let shown = caller.call(get, |_| {}).await?;
    let step = Step::Shows { view: shown.answer, settled: false };
    order.note(caller.client, &[step], shown.began, Some(shown.ended));
    Ok(())
}

async fn change(
    caller: &mut Caller,
    order: &Changed,
    change: Change,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let client = caller.client;
    let number = || order.calls.fetch_add(1, Ordering::Relaxed);
    let lost = |began| {
        tally.unknown += 1;
        let call = number();
        let changes = Step::Changes { call, change, result: None };
        order.note(client, &[changes, Step::Settles { call }], began, None);
    };
    let ask = |to: Handles| async move { said(ask(&to, order, change).await) };
    let answered = caller.call(ask, lost).await?;
    let (call, ended) = (number(), Some(answered.ended));
    match answered.answer {
        Ok(view) => {
            let changes = Step::Changes { call, change, result: Some(Ok(())) };
            // The answer to a shipment waits for this shipment only.
            let settled = !matches!(change, Change::Fulfil { .. });
            let steps = [changes, Step::Settles { call }, Step::Shows { view, settled }];
            order.note(client, &steps, answered.began, ended);
        }
        Err(no) => {
            let refuses = Step::Changes { call, change, result: Some(Err(no)) };
            order.note(client, &[refuses], answered.began, ended);
        }
    }
    Ok(())
}

async fn ask(to: &Handles, order: &Changed, change: Change) -> Result<tidegate::Order, OrderError> {
    let (orders, id) = (&to.orders, order.id);
    let units = |units| vec![Units::new(&order.sku, units)];
    match change {
        Change::Pay { event, money, amount_minor } => {
            let event_id = format!("event-{event}");
            let event = match money {
                Money::In => PaymentEvent::captured("bank", event_id, amount_minor),
                Money::Back => PaymentEvent::refunded("bank", event_id, amount_minor),
            };
            orders.pay(id, event).await
        }
        Change::Cancel { key } => orders.cancel(id, &format!("k{key}")).await,
        Change::Fulfil { key, units: some } => {
            orders.fulfil(id, Some(units(some)), &format!("k{key}")).await
        }
        Change::TakeBack { key, units: some } => {
            orders.take_back(id, units(some), true, &format!("k{key}")).await
        }
    }
}

fn said(outcome: Result<tidegate::Order, OrderError>) -> Result<Result<View, No>, Failed> {
    let no = match sorted(outcome)? {
        Ok(order) => return Ok(Ok(view(&order))),
        Err(no) => no,
    };
    Ok(Err(match no {
        OrderRejection::PaymentConflict { .. } => No::Conflict,
        OrderRejection::WrongState { state, .. } => No::WrongState(State::from(state)),
        OrderRejection::AlreadyShipped { .. } => No::AlreadyShipped,
        OrderRejection::TooMany { at_most, .. } => No::TooMany { at_most },
        OrderRejection::ChangeUnderWay { .. } => No::ChangeUnderWay,
        OrderRejection::Idempotency(IdempotencyError::Conflict) => No::Other,
        other => return Err(Failed::Wrong(other.to_string())),
    }))
}

fn view(order: &tidegate::Order) -> View {
    let sum = |of: fn(&tidegate::OrderLine) -> u32| order.lines.iter().map(of).sum::<u32>().into();
    View {
        state: State::from(order.state),
        shipped: sum(|line| line.shipped),
        returned: sum(|line| line.returned),
        captured_minor: order.history.captured_minor,
        refunded_minor: order.history.refunded_minor,
        payments: order.history.payments.len(),
    }
}
