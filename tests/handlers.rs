//! Handlers that do not come to an end, or can't say how they did. What becomes of those that fail
//! or panic is in `topics`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tidegate::{Handler, HandlerError, ManualTime, Message, Retry, Topic, Whence};

use crate::shop::{self, Shop, eventually};

/// Hangs on odd numbers, and counts the others.
struct Hangs(Arc<AtomicUsize>);

impl Handler<u32> for Hangs {
    async fn handle(&self, message: &Message<u32>) -> Result<(), HandlerError> {
        if message.value % 2 == 1 {
            std::future::pending::<()>().await;
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_hangs_is_dropped_and_has_failed() {
    let shop = Shop::open().await;
    let topic: Topic<u32> = shop.gate.topic("numbers").unwrap();
    for number in [1, 3, 5] {
        topic.publish(&number).key(format!("k-{number}")).await.unwrap();
    }
    let retry = Retry { attempts_max: 2, backoff_ms: 0, backoff_ms_max: 0 };
    let group = topic.group("g").begin(Whence::Oldest).retry(retry).open().await.unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    // The store's clock stands still, so no lease runs out before the handler is dropped.
    let workers = group.run(2, Duration::from_millis(20), Hangs(Arc::clone(&handled)));
    let dead = eventually("all are given up", async || {
        let dead = group.dead_letters(None, 10).await.unwrap();
        (dead.len() == 3).then_some(dead)
    })
    .await;
    for dead in dead {
        assert_eq!((dead.attempts, dead.cause.as_str()), (2, "the handler took longer than 20ms"));
    }
    workers.stop().await;
    assert_eq!(handled.load(Ordering::SeqCst), 0);
    let workers = group.run(1, Duration::from_secs(60), Hangs(Arc::clone(&handled)));
    topic.publish(&2).key("k-1").await.unwrap();
    eventually("others are handled", async || (handled.load(Ordering::SeqCst) == 1).then_some(()))
        .await;
    workers.stop().await;
    drop(group);
    shop.audited().await;
}

/// A clock by which no lease ever ends.
fn stands_still() -> Arc<ManualTime> {
    ManualTime::at_ms(shop::BEGIN_MS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_handler_has_done_is_told_until_the_shard_has_room_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let small = || shop::small(folder.path()).consumer_shards(1).time(stands_still());
    let gate = small().open().await.unwrap();
    let topic: Topic<u32> = gate.topic("numbers").unwrap();
    for number in 0..8 {
        topic.publish(&(2 * number)).await.unwrap();
    }
    gate.close().await.unwrap();
    // One command at a time: whoever else asks is refused.
    let gate = small().in_flight_max(1).open().await.unwrap();
    let topic: Topic<u32> = gate.topic("numbers").unwrap();
    let group = topic.group("g").begin(Whence::Oldest).open().await.unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    let workers = group.run(2, Duration::from_secs(60), Hangs(Arc::clone(&handled)));
    // What was not told would never come again.
    eventually("all are done", async || {
        let view = group.view().await.ok()?;
        (view.done == 8).then_some(())
    })
    .await;
    workers.stop().await;
    assert_eq!(handled.load(Ordering::SeqCst), 8, "each once");
    drop(group);
    gate.close().await.unwrap();
    shop::assert_sound(folder.path());
}
