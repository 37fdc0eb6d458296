//! Holds without an order: each has exactly one outcome, whoever asks for which, and when.

use tidegate::{
    AskError, Hold, HoldId, HoldOutcome, IdempotencyError, NewHold, Refusal, StockError,
    StockRejection,
};

use crate::{
    seed::Random,
    shop::{Shop, eventually},
};

const MINUTE_MS: u64 = 60_000;

async fn hold(shop: &Shop, units: u64, key: &str) -> Result<Hold, StockError> {
    let hold = NewHold::new("ada", "mug", units, MINUTE_MS);
    shop.gate.stock().hold(hold, key).await
}

async fn shop_with_mugs() -> Shop {
    let shop = Shop::open().await;
    shop.item("mug", 10).await;
    shop
}

/// The outcome that a hold has already, as the reason why it can't have another.
fn settled(result: Result<Hold, StockError>) -> HoldOutcome {
    match result.map_err(|error| error.rejection().cloned()) {
        Err(Some(StockRejection::HoldSettled { outcome, .. })) => outcome,
        other => panic!("not settled: {other:?}"),
    }
}

async fn until_expired(shop: &Shop, id: HoldId) -> Hold {
    eventually("the hold expires", async || {
        let hold = shop.gate.stock().get_hold(id).await.unwrap();
        hold.settled.is_some().then_some(hold)
    })
    .await
}

#[tokio::test]
async fn a_hold_is_confirmed_once_and_shipped_once() {
    let shop = shop_with_mugs().await;
    let id = hold(&shop, 3, "h").await.unwrap().id;
    assert_eq!(shop.levels("mug").await, (10, 3, 0));
    let early = shop.gate.stock().ship_hold(id).await.unwrap_err();
    assert!(matches!(early.rejection(), Some(StockRejection::HoldNotConfirmed { .. })));
    let confirmed = shop.gate.stock().confirm_hold(id).await.unwrap();
    assert_eq!(shop.gate.stock().confirm_hold(id).await.unwrap(), confirmed);
    assert_eq!(settled(shop.gate.stock().release_hold(id).await), HoldOutcome::Confirmed);
    assert_eq!(settled(shop.gate.stock().extend_hold(id, 5).await), HoldOutcome::Confirmed);
    assert_eq!(shop.levels("mug").await, (10, 0, 3));
    shop.time.advance_ms(MINUTE_MS * 2);
    let shop = shop.reopened().await;
    assert_eq!(shop.gate.stock().get_hold(id).await.unwrap(), confirmed, "it never expires");
    let shipped = shop.gate.stock().ship_hold(id).await.unwrap();
    assert_eq!(shop.gate.stock().ship_hold(id).await.unwrap(), shipped);
    assert_eq!(shop.levels("mug").await, (7, 0, 0));
    shop.audited().await;
}

#[tokio::test]
async fn many_holds_are_placed_and_confirmed_together_each_by_itself() {
    let shop = shop_with_mugs().await;
    shop.item("tea", 1).await;
    let stock = shop.gate.stock();
    let new = |sku: &str, units| NewHold::new("ada", sku, units, MINUTE_MS);
    let asked = [
        (new("mug", 6), "a"),
        (new("tea", 1), "a"),
        (new("no such", 1), "b"),
        (new("", 1), "c"),
        (new("mug", 6), "d"),
        (new("mug", 4), "e"),
        (new("mug", 6), "a"),
        (new("mug", 1), "a"),
    ];
    let held = stock.hold_many(asked).await;
    let ids: Vec<_> = held.iter().map(|held| held.as_ref().ok().map(|hold| hold.id)).collect();
    assert_eq!(
        ids.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, true, false, false, false, true, true, false]
    );
    assert_eq!(ids[0], ids[6], "the same key with the same hold");
    assert_eq!(ids.iter().flatten().collect::<std::collections::HashSet<_>>().len(), 3);
    let why = |n: usize| held[n].as_ref().unwrap_err().rejection().cloned().unwrap();
    assert!(matches!(why(2), StockRejection::Invalid(_)), "a blank is no name");
    assert!(matches!(why(3), StockRejection::Invalid(_)));
    assert!(matches!(why(4), StockRejection::Refused(Refusal::SoldOut { available: 4, .. })));
    assert!(matches!(why(7), StockRejection::Idempotency(IdempotencyError::Conflict)));

    let (tea, unknown) = (ids[1].unwrap(), HoldId(u64::MAX));
    stock.release_hold(tea).await.unwrap();
    let confirmed = stock.confirm_many([ids[5].unwrap(), tea, unknown, ids[0].unwrap()]).await;
    let [four, released, nobody, six] = <[_; 4]>::try_from(confirmed).unwrap();
    assert_eq!((four.unwrap().line.quantity, six.unwrap().line.quantity), (4, 6));
    assert_eq!(settled(released), HoldOutcome::Released);
    let unknown = StockRejection::UnknownHold { hold: unknown };
    assert_eq!(nobody.unwrap_err().rejection(), Some(&unknown));
    let mug = stock.get("mug").await.unwrap().total;
    assert_eq!((mug.held, mug.allocated, mug.available()), (0, 10, 0));
    assert!(stock.hold_many(Vec::<(NewHold, &str)>::new()).await.is_empty());
    assert!(stock.confirm_many([]).await.is_empty());
    shop.gate.close().await.unwrap();
    let closing = stock.confirm_many([tea]).await;
    assert!(matches!(closing[..], [Err(AskError::Closing)]));
}

#[tokio::test]
async fn a_released_hold_is_free_at_once_and_for_good() {
    let shop = shop_with_mugs().await;
    let id = hold(&shop, 10, "h").await.unwrap().id;
    let out = hold(&shop, 1, "h2").await.unwrap_err();
    assert!(matches!(
        out.rejection(),
        Some(StockRejection::Refused(Refusal::SoldOut { requested: 1, available: 0, .. }))
    ));
    let released = shop.gate.stock().release_hold(id).await.unwrap();
    assert_eq!(shop.gate.stock().release_hold(id).await.unwrap(), released);
    let shop = shop.crashed().await;
    assert_eq!(settled(shop.gate.stock().confirm_hold(id).await), HoldOutcome::Released);
    hold(&shop, 10, "h2").await.unwrap();
    assert_eq!(shop.levels("mug").await, (10, 10, 0));
    shop.audited().await;
}

#[tokio::test]
async fn a_hold_expires_unless_it_is_extended_in_time() {
    let shop = shop_with_mugs().await;
    let short = hold(&shop, 2, "short").await.unwrap();
    let long = hold(&shop, 3, "long").await.unwrap();
    assert_eq!(short.expires_at.0, short.placed_at.0 + MINUTE_MS);
    shop.time.advance_ms(MINUTE_MS - 1);
    let extended = shop.gate.stock().extend_hold(long.id, MINUTE_MS).await.unwrap();
    assert_eq!(extended.expires_at.0, long.placed_at.0 + 2 * MINUTE_MS - 1);
    shop.time.advance_ms(1);
    let gone = until_expired(&shop, short.id).await;
    assert!(matches!(gone.settled, Some((HoldOutcome::Expired, _))), "{gone:?}");
    assert_eq!(settled(shop.gate.stock().confirm_hold(short.id).await), HoldOutcome::Expired);
    assert_eq!(settled(shop.gate.stock().release_hold(short.id).await), HoldOutcome::Expired);
    assert_eq!(shop.levels("mug").await, (10, 3, 0));

    let shop = shop.crashed().await;
    assert_eq!(shop.gate.stock().get_hold(long.id).await.unwrap().settled, None);
    shop.time.advance_ms(MINUTE_MS);
    until_expired(&shop, long.id).await;
    assert_eq!(shop.levels("mug").await, (10, 0, 0));
    shop.audited().await;
}

#[tokio::test]
async fn of_all_who_settle_one_hold_at_once_one_kind_wins() {
    let mut random = Random::of("of_all_who_settle_one_hold_at_once_one_kind_wins");
    let shop = shop_with_mugs().await;
    for round in 0..20 {
        let id = hold(&shop, 1, &format!("h{round}")).await.unwrap().id;
        let mut asks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (stock, confirm) = (shop.gate.stock().clone(), random.number().is_multiple_of(2));
            asks.spawn(async move {
                if confirm { stock.confirm_hold(id).await } else { stock.release_hold(id).await }
            });
        }
        let results = asks.join_all().await;
        let hold = shop.gate.stock().get_hold(id).await.unwrap();
        let (outcome, _) = hold.settled.expect("it is settled");
        for result in results {
            match result {
                Ok(answer) => assert_eq!(answer, hold),
                lost => assert_eq!(settled(lost), outcome),
            }
        }
        if outcome == HoldOutcome::Confirmed {
            shop.gate.stock().ship_hold(id).await.unwrap();
            shop.gate
                .stock()
                .adjust(tidegate::Adjustment::new("mug", 1, "back"), &id.to_string())
                .await
                .unwrap();
        }
        assert_eq!(shop.levels("mug").await, (10, 0, 0));
    }
    shop.audited().await;
}

#[tokio::test]
async fn a_holds_key_gives_the_hold_as_it_is_now() {
    let shop = shop_with_mugs().await;
    let first = hold(&shop, 2, "h").await.unwrap();
    assert_eq!(hold(&shop, 2, "h").await.unwrap(), first);
    let other = hold(&shop, 3, "h").await.unwrap_err();
    let conflict = StockRejection::Idempotency(IdempotencyError::Conflict);
    assert_eq!(other.rejection(), Some(&conflict));
    let released = shop.gate.stock().release_hold(first.id).await.unwrap();
    let shop = shop.reopened().await;
    assert_eq!(hold(&shop, 2, "h").await.unwrap(), released);
    assert_eq!(shop.levels("mug").await, (10, 0, 0));
    shop.audited().await;
}

#[tokio::test]
async fn what_can_not_be_held_is_refused_and_changes_nothing() {
    let shop = shop_with_mugs().await;
    let before = shop.picture(&["mug"], &[]).await;
    let bad = [
        (NewHold::new("ada", "mug", 0, 5), "quantity"),
        (NewHold::new("ada", "mug", 1, 0), "ttl_ms"),
        (NewHold::new("ada", "mug", 1, u64::MAX), "ttl_ms"),
        (NewHold::new("", "mug", 1, 5), "user"),
        (NewHold::new("ada", "m g", 1, 5), "sku"),
        (NewHold::new("ada", "mug", 1, 5).at("\u{fc}"), "location"),
    ];
    for (hold, field) in bad {
        match shop.gate.stock().hold(hold, "h").await {
            Err(AskError::Rejected(StockRejection::Invalid(error))) => {
                assert_eq!(error.field, field);
            }
            other => panic!("{field}: {other:?}"),
        }
    }
    for shard in [0, 99] {
        let id = HoldId::new(shard, 77).unwrap();
        assert!(shop.gate.stock().confirm_hold(id).await.unwrap_err().rejection().is_some());
        assert!(shop.gate.stock().get_hold(id).await.unwrap_err().rejection().is_some());
    }
    assert_eq!(shop.picture(&["mug"], &[]).await, before);
    shop.audited().await;
}
