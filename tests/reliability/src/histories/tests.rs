//! Short histories on a real store, and that they are refused once a single answer in them is
//! changed. Long ones are made by the tool.

use super::{
    order::{Step as OrderStep, View},
    sku::{Levels, Said},
    *,
};

fn seed() -> u64 {
    let given = std::env::var("TIDEGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("TIDEGATE_SEED={seed}");
    seed
}

#[test]
fn what_clients_are_answered_at_once_could_be_answered_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tally = runtime.block_on(rounds(folder.path(), seed(), |round| round < 8)).unwrap();
    println!("{tally:?}");
    assert_eq!(tally.rounds, 8);
    assert!(tally.steps > 8 * CLIENTS as u64 * CALLS, "{tally:?}");
    assert!(tidegate::audit(folder.path()).unwrap().ok);
}

/// Refused once `change` has changed any one entry that it takes, in turn.
fn assert_bites<M: Model>(
    start: &M,
    history: &Mutex<Vec<Entry<M::Step>>>,
    change: impl Fn(&mut M::Step) -> bool,
) -> usize
where
    M::Step: Clone,
{
    let history = history.lock().unwrap();
    assert!(check(start, &history).is_ok());
    let mut changed = 0;
    for number in 0..history.len() {
        let mut wrong = history.clone();
        if change(&mut wrong[number].step) {
            changed += 1;
            let found = check(start, &wrong);
            assert!(matches!(found, Err(Refused::NoOrder(_))), "{:?}", wrong[number]);
        }
    }
    changed
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_answer_in_a_real_history_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut luck = fastrand::Rng::with_seed(seed());
    let store = Store::open(folder.path()).await.unwrap();
    let mut first = store.caller(0);
    let sku = [Contested::new(&mut first, "sku".to_owned(), &mut luck).await.unwrap()];
    let order = [Changed::new(&mut first, "order".to_owned()).await.unwrap()];
    let buys = sku_clients::client(store.caller(1), &sku, luck.fork(), 40);
    let reads = sku_clients::client(store.caller(2), &sku, luck.fork(), 40);
    let pays = order_clients::client(store.caller(3), &order, luck.fork(), 20);
    let ships = order_clients::client(store.caller(4), &order, luck.fork(), 20);
    tokio::try_join!(buys, reads, pays, ships).unwrap();
    store.close().await.unwrap();

    let [sku] = &sku;
    // A unit more on hand than there can be, and one more sold out than there was.
    let wrong = assert_bites(&sku.start, &sku.history, |step| match &mut step.said {
        Some(Said::Levels(Levels(on_hand, ..))) => {
            *on_hand += 100;
            true
        }
        Some(Said::SoldOut { available }) => {
            *available += 100;
            true
        }
        _ => false,
    });
    assert!(wrong > 0);
    let [order] = &order;
    let wrong = assert_bites(&order::Order::accepted(), &order.history, |step| match step {
        OrderStep::Shows { view: View { payments, .. }, .. } => {
            *payments += 50;
            true
        }
        _ => false,
    });
    assert!(wrong > 0);
}
