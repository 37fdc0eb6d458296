//! What operators of consumer groups need of the library: opening only what is there, how a group
//! stands, other retries while it is open, one dead letter. What consumers need is in `topics`.

use std::time::Duration;

use tidegate::{
    AskError, ConsumeError, ConsumerGroup, ConsumersRejection, FeedError, MessageId, Retry, Whence,
};

use crate::shop::{BEGIN_MS, Shop, eventually};

const LONG: Duration = Duration::from_secs(60);

async fn fail_one(group: &ConsumerGroup<u8>) -> MessageId {
    let leased = group.lease(1, LONG, LONG).await.unwrap().remove(0);
    leased.fail("no luck").await.unwrap();
    leased.id()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_must_be_there_is_not_made_and_none_begins_beyond_the_end() {
    let shop = Shop::open().await;
    let topic = shop.gate.topic::<u8>("t").unwrap();
    let unknown = topic.group("g").only_known().open().await.err().unwrap();
    let ConsumeError::Ask(AskError::Rejected(unknown)) = unknown else { panic!("{unknown}") };
    assert!(matches!(unknown, ConsumersRejection::UnknownGroup { .. }), "{unknown}");
    assert!(shop.gate.consumer_groups().await.unwrap().is_empty());

    let beyond = MessageId::after(shop.gate.report().durable.0 + 1_000);
    let ahead = topic.group("g").begin(Whence::After(beyond)).open().await.err().unwrap();
    assert!(matches!(ahead, ConsumeError::Feed(FeedError::Ahead { .. })), "{ahead}");
    assert!(shop.gate.consumer_groups().await.unwrap().is_empty());

    let group = topic.group("g").begin(Whence::Oldest).open().await.unwrap();
    let ahead = group.seek(Whence::After(beyond)).await.unwrap_err();
    assert!(matches!(ahead, ConsumeError::Feed(FeedError::Ahead { .. })), "{ahead}");
    let known = topic.group("g").only_known().open().await.unwrap();
    topic.publish(&7).await.unwrap();
    let leased = known.lease(1, LONG, LONG).await.unwrap().remove(0);
    assert!(leased.until().0 >= BEGIN_MS + 60_000);
    leased.ack().await.unwrap();
    drop((leased, known, group));
    shop.audited().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_says_how_it_stands_and_takes_other_retries_while_it_is_open() {
    let shop = Shop::open().await;
    let topic = shop.gate.topic::<u8>("t").unwrap();
    for number in 1..=3 {
        topic.publish(&number).await.unwrap();
    }
    let retry = Retry { attempts_max: 2, backoff_ms: 0, backoff_ms_max: 0 };
    let group = topic.group("g").begin(Whence::Oldest).retry(retry).open().await.unwrap();
    let figures = eventually("all is at hand", async || {
        Some(group.figures()).filter(|figures| figures.open == 3)
    })
    .await;
    assert_eq!((figures.leased, figures.retries, figures.retry), (0, 0, retry));
    assert!(figures.reads_on && figures.oldest_at.unwrap().0 >= BEGIN_MS);

    let first = fail_one(&group).await;
    assert_eq!(fail_one(&group).await, first, "it is tried again");
    assert_eq!((group.figures().open, group.figures().retries), (2, 1));
    let dead = group.dead_letter(first).await.unwrap().unwrap();
    assert_eq!((dead.attempts, dead.cause.as_str()), (2, "no luck"));
    let next = MessageId::after(first.position + 1);
    assert_eq!(group.dead_letter(next).await.unwrap(), None);
    assert_eq!(group.dead_letter(MessageId { within: Some(1), ..first }).await.unwrap(), None);

    let bad = group.set_retry(Retry { attempts_max: 0, ..retry }).unwrap_err();
    assert!(bad.to_string().contains("attempts_max"), "{bad}");
    group.set_retry(Retry { attempts_max: 1, ..retry }).unwrap();
    let second = fail_one(&group).await;
    assert!(group.dead_letter(second).await.unwrap().is_some(), "one attempt was all");
    assert!(!group.is_over());
    group.remove().await.unwrap();
    assert!(group.is_over());
    drop(group);
    shop.audited().await;
}
