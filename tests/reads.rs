//! Reads that no shard has a part in: what they show, and when a shard is asked after all. That
//! they are never ahead of the disk is for the simulation to find out.

use std::sync::{Arc, Barrier, atomic::AtomicBool};

use tidegate::{
    Adjustment, AskError, Intake, NewOrder, OrderId, OrderRejection, OrderState, SkuPatch,
};

use crate::{
    queue::{Command, Post, Queue},
    shop::{Shop, assert_sound, at_once, eventually, small},
};

fn mug(user: &str) -> NewOrder {
    NewOrder::new(user).line("mug", 1)
}

/// Its only order shard, its only stock shard and a machine that hangs are on one thread.
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_stock_are_read_while_their_shards_hang() {
    let folder = tempfile::tempdir().unwrap();
    let cut = Arc::new(AtomicBool::new(false));
    let gate = small(folder.path())
        .stock_shards(1)
        .order_shards(1)
        .machine_with(1, Queue::fresh, move |group| Box::new(Post { group, cut: Arc::clone(&cut) }))
        .open()
        .await
        .unwrap();
    gate.stock().define("mug", SkuPatch::default()).await.unwrap();
    gate.stock().adjust(Adjustment::new("mug", 9, "all"), "all").await.unwrap();
    let (orders, stock) = (gate.orders(), gate.stock());
    let live = orders.place(mug("ada"), "live").await.unwrap().id;
    let over = orders.place(mug("bob"), "over").await.unwrap().id;
    orders.cancel(over, "no").await.unwrap();
    let _item = eventually("all is on disk and at rest is archived", async || {
        let report = gate.report();
        let all = report.projector.rows > 0 && report.projector.backlog == 0;
        let read = [at_once(orders.get(live)), at_once(orders.get(over))];
        (all && read.iter().all(Option::is_some)).then_some(())?;
        at_once(stock.get("mug"))
    })
    .await;

    let barrier = Arc::new(Barrier::new(2));
    let group = gate.shards_of::<Queue>().unwrap();
    let hanging = group.ask(0, Command::Block(Arc::clone(&barrier)));
    let before = gate.report().shards.iter().map(|shard| shard.commands).sum::<u64>();
    let never = OrderId::new(0, 1_000).unwrap();
    // Its thread may just be at the machine when it is looked at; once it hangs, it is not.
    let mut read = [live, over, never].map(|_| None);
    let mut item = None;
    for _ in 0..1_000 {
        for (order, read) in [live, over, never].into_iter().zip(&mut read) {
            *read = read.take().or_else(|| at_once(orders.get(order)));
        }
        item = item.or_else(|| at_once(stock.get("mug")));
        if item.is_some() && read.iter().all(Option::is_some) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let after = gate.report().shards.iter().map(|shard| shard.commands).sum::<u64>();
    // It goes on before anything is asserted: a test that fails must not hang as well.
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    hanging.await.unwrap();
    let [live_now, over_now, unknown] = read.map(Option::unwrap);
    assert_eq!(live_now.unwrap().state, OrderState::AwaitingPayment);
    assert_eq!(over_now.unwrap().state, OrderState::Cancelled);
    let expected = OrderRejection::UnknownOrder { order: never };
    assert_eq!(unknown.unwrap_err().rejection(), Some(&expected));
    assert_eq!(item.unwrap().unwrap().total.held, 1);
    assert!(after >= before + 4, "they are counted");
    gate.close().await.unwrap();
    let closed = orders.get(live).await.unwrap_err();
    assert!(matches!(closed, AskError::Closing), "{closed}");
    assert_sound(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_shows_all_that_was_answered_before_it() {
    let shop = Shop::open().await;
    shop.item("mug", 1_000).await;
    let mut asks = tokio::task::JoinSet::new();
    for caller in 0..16 {
        let gate = shop.gate.clone();
        asks.spawn(async move {
            let orders = gate.orders();
            for round in 0..10 {
                let key = format!("{caller}-{round}");
                let id = orders.place(mug("ada"), &key).await.unwrap().id;
                assert_eq!(orders.get(id).await.unwrap().state, OrderState::AwaitingPayment);
                let event = tidegate::PaymentEvent::captured("bank", &*key, 100);
                let paid = orders.pay(id, event).await.unwrap();
                let read = orders.get(id).await.unwrap();
                assert!(read.version >= paid.version && read.state == OrderState::Confirmed);
                orders.fulfil(id, None, &key).await.unwrap();
                let read = orders.get(id).await.unwrap();
                assert_eq!(read.lines[0].shipped, 1);
                let refused = orders.place(NewOrder::new("ada").line("none", 1), "none").await;
                assert!(refused.is_err());
            }
        });
    }
    asks.join_all().await;
    shop.audited().await;
}

#[tokio::test]
async fn who_waits_in_the_queue_is_told_where_by_the_shard() {
    let shop = Shop::taking_in(Intake::per_second(1)).await;
    shop.item("mug", 10).await;
    let queued = async |key: &str| {
        let order = mug("ada").respond_async();
        shop.gate.orders().place(order, key).await.unwrap().id
    };
    queued("a").await;
    let last = queued("b").await;
    let (order, place) = shop.gate.orders().get_with_place(last).await.unwrap();
    assert_eq!((order.state, place.is_some()), (OrderState::Queued, true));
}
