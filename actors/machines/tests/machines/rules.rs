//! Rules that need the exact command: idempotency, precedence, tickets, time. It deliberately
//! leaves what a scenario can say to the scenarios.

use tidegate_machines::bounds::{LINES_MAX, QUANTITY_MAX};
use tidegate_machines::*;

use crate::network::{Network, RETENTION_MS, orders_config, stock_config};

fn sku(name: &str) -> Sku {
    Sku::new(name).unwrap()
}

fn line(name: &str, quantity: u64) -> NewLine {
    NewLine { sku: sku(name), location: Location::default(), quantity, amount_minor: None }
}

fn order(key: u128, lines: Vec<NewLine>) -> PlaceOrder {
    PlaceOrder {
        key: KeyHash(key),
        fingerprint: Fingerprint(7),
        user: UserId::new("ann").unwrap(),
        lines,
        hold_ms: 1_000,
        respond_async: false,
        hint: None,
    }
}

fn adjust(key: u128, delta: i64) -> StockCommand {
    StockCommand::Adjust {
        key: KeyHash(key),
        fingerprint: Fingerprint(delta.unsigned_abs()),
        sku: sku("A"),
        location: Location::default(),
        delta,
        reason: "delivery".into(),
    }
}

fn stocked(units: i64) -> Network {
    let mut network = Network::new();
    let shard = Network::stock_of(&sku("A"));
    let define = StockCommand::Define { sku: sku("A"), patch: SkuPatch::default() };
    network.ask_stock(shard, &define).unwrap();
    network.ask_stock(shard, &adjust(1, units)).unwrap();
    network
}

fn place(network: &mut Network, place: PlaceOrder) -> Result<OrderReply, OrderRejection> {
    match network.ask_orders(0, &OrderCommand::Place(place))? {
        Answer::Now(reply) => Ok(reply),
        Answer::Later(ticket) => {
            network.deliver_all();
            network.settled.remove(&ticket).unwrap()
        }
        Answer::Nobody => panic!("a placed order is answered"),
    }
}

fn id_of(reply: &OrderReply) -> OrderId {
    match reply {
        OrderReply::Placed(receipt) => receipt.id,
        other => panic!("not a receipt: {other:?}"),
    }
}

#[test]
fn the_same_key_gives_the_same_order_and_another_request_a_conflict() {
    let mut network = stocked(5);
    let first = place(&mut network, order(9, vec![line("A", 2)])).unwrap();
    let again = place(&mut network, order(9, vec![line("A", 2)])).unwrap();
    assert_eq!(first, again);
    let other = PlaceOrder { fingerprint: Fingerprint(8), ..order(9, vec![line("A", 1)]) };
    let conflict = place(&mut network, other);
    assert_eq!(conflict, Err(OrderRejection::Idempotency(IdempotencyError::Conflict)));
    assert_eq!(network.level(&sku("A")).held, 2);
}

#[test]
fn a_repeat_while_queued_waits_for_the_same_ticket() {
    let mut network = stocked(5);
    let command = OrderCommand::Place(order(9, vec![line("A", 2)]));
    let first = network.ask_orders(0, &command).unwrap();
    assert!(matches!(first, Answer::Later(Ticket { purpose: PLACE, .. })));
    assert_eq!(network.ask_orders(0, &command).unwrap(), first);
    let queued = PlaceOrder { respond_async: true, ..order(9, vec![line("A", 2)]) };
    let OrderReply::Placed(receipt) = place(&mut network, queued).unwrap() else { panic!() };
    assert_eq!(receipt.state, OrderState::Queued);
}

#[test]
fn a_refused_order_frees_its_key() {
    let mut network = stocked(1);
    assert!(place(&mut network, order(9, vec![line("A", 2)])).is_err());
    assert!(network.orders[0].machine.is_empty());
    let other = PlaceOrder { fingerprint: Fingerprint(8), ..order(9, vec![line("A", 1)]) };
    assert!(place(&mut network, other).is_ok());
}

#[test]
fn a_hint_refuses_without_an_event_but_after_the_checks() {
    let mut network = stocked(1);
    let hint = Some(Refusal::UnknownSku { sku: sku("A") });
    let hinted = PlaceOrder { hint: hint.clone(), ..order(9, vec![line("A", 1)]) };
    assert!(matches!(place(&mut network, hinted), Err(OrderRejection::Refused(_))));
    assert!(network.orders[0].journal.is_empty());
    let hinted = PlaceOrder { hint, ..order(9, vec![line("A", 0)]) };
    assert!(matches!(place(&mut network, hinted), Err(OrderRejection::Invalid(_))));
}

#[test]
fn bounds_name_the_field_the_bound_and_what_was_given() {
    let mut network = stocked(1);
    let mut said = |lines| place(&mut network, order(9, lines)).unwrap_err().to_string();
    assert_eq!(said(vec![]), "lines must be 1 to 256 lines; got 0");
    assert_eq!(said(vec![line("A", 1); LINES_MAX + 1]), "lines must be 1 to 256 lines; got 257");
    assert_eq!(
        said(vec![line("A", QUANTITY_MAX), line("A", 1)]),
        "quantity must be 1 to 1000000; got 1000001"
    );
    let dear = NewLine { amount_minor: Some(u64::MAX), ..line("A", 1) };
    assert!(said(vec![dear]).starts_with("amount_minor must be 0 to 9007199254740991"));
    let late = PlaceOrder { hold_ms: 0, ..order(9, vec![line("A", 1)]) };
    assert!(matches!(place(&mut network, late), Err(OrderRejection::Invalid(_))));
}

#[test]
fn a_full_memory_refuses_instead_of_forgetting() {
    let mut stock = Stock::new(StockConfig { idempotency_keys_max: 1, ..stock_config(0) });
    let mut run = |command: &StockCommand, now: u64| {
        if let Some(tick) = stock.due(Timestamp(now)) {
            let event = stock.decide(&tick, Timestamp(now)).unwrap().event.unwrap();
            stock.apply(&event);
        }
        let decision = stock.decide(command, Timestamp(now))?;
        decision.event.iter().for_each(|event| stock.apply(event));
        Ok::<_, StockRejection>(decision.answer)
    };
    run(&StockCommand::Define { sku: sku("A"), patch: SkuPatch::default() }, 0).unwrap();
    let first = run(&adjust(1, 5), 1).unwrap();
    assert_eq!(run(&adjust(1, 5), 2).unwrap(), first, "a repeat needs no room");
    let full = StockRejection::Idempotency(IdempotencyError::MemoryFull { keys_max: 1 });
    assert_eq!(run(&adjust(2, 5), RETENTION_MS), Err(full));
    run(&adjust(2, 5), RETENTION_MS + 2).unwrap();
}

#[test]
fn a_repeated_operation_has_its_outcome_again_and_no_event() {
    let mut network = stocked(5);
    let shard = Network::stock_of(&sku("A"));
    let stock = &mut network.stocks[usize::from(shard)].machine;
    let op = |op: u64, acked_below: u64| {
        StockCommand::Op(OrderOp {
            op: OpId(op),
            from: 3,
            acked_below: OpId(acked_below),
            order: OrderId(op),
            action: OpAction::Reserve {
                user: UserId::new("ann").unwrap(),
                lines: vec![StockLine {
                    sku: sku("A"),
                    location: Location::default(),
                    quantity: 4,
                }]
                .into(),
            },
        })
    };
    for number in [1, 2] {
        let first = stock.decide(&op(number, 1), Timestamp(0)).unwrap();
        stock.apply(&first.event.unwrap());
        let again = stock.decide(&op(number, 1), Timestamp(0)).unwrap();
        assert!(again.event.is_none());
        assert_eq!(again.effects, first.effects);
    }
    assert_eq!(stock.outstanding().len(), 2);
    let third = stock.decide(&op(3, 3), Timestamp(0)).unwrap();
    stock.apply(&third.event.unwrap());
    assert_eq!(stock.outstanding().len(), 1, "answered operations are forgotten");
    let late = stock.decide(&op(1, 1), Timestamp(0)).unwrap();
    assert!(late.event.is_none() && late.effects.is_empty(), "and ignored if they come again");
}

#[test]
fn many_orders_expire_a_thousand_at_a_time() {
    let mut network = stocked(1_500);
    for key in 100..1_600 {
        place(&mut network, order(key, vec![line("A", 1)])).unwrap();
    }
    network.now = network.now.plus_ms(1_000);
    network.tick();
    network.deliver_all();
    let ticks = network.orders[0].journal.iter().filter_map(|event| match event {
        OrderEvent::Ticked { expired, .. } => Some(expired.len()),
        _ => None,
    });
    assert_eq!(ticks.collect::<Vec<_>>(), [1_000, 500]);
    assert_eq!(network.level(&sku("A")).held, 0);
    network.check();
}

#[test]
fn keys_are_forgotten_after_the_retention_and_not_before() {
    let mut network = stocked(5);
    let first = place(&mut network, order(9, vec![line("A", 1)])).unwrap();
    network.now = network.now.plus_ms(RETENTION_MS);
    let again = place(&mut network, order(9, vec![line("A", 1)])).unwrap();
    assert_eq!(id_of(&first), id_of(&again));
    network.now = network.now.plus_ms(2_000);
    let later = place(&mut network, order(9, vec![line("A", 1)])).unwrap();
    assert_ne!(id_of(&first), id_of(&later));
}

#[test]
fn orders_are_listed_by_user_newest_first() {
    let mut network = stocked(5);
    let ids: Vec<_> = (10..13)
        .map(|key| id_of(&place(&mut network, order(key, vec![line("A", 1)])).unwrap()))
        .collect();
    let mut list = |after: Option<OrderId>, limit| -> Vec<OrderId> {
        let user = UserId::new("ann").unwrap();
        let after = after.map(|id| (network.order(id).unwrap().placed_at, id));
        let command = OrderCommand::ListByUser { user, after, limit };
        let Ok(Answer::Now(OrderReply::Orders(orders))) = network.ask_orders(0, &command) else {
            panic!()
        };
        orders.iter().map(|order| order.id).collect()
    };
    assert_eq!(list(None, usize::MAX), [ids[2], ids[1], ids[0]]);
    assert_eq!(list(None, 2), [ids[2], ids[1]]);
    assert_eq!(list(Some(ids[2]), 1), [ids[1]]);
    assert_eq!(list(Some(ids[1]), 2), [ids[0]]);
    assert_eq!(list(Some(ids[0]), 2), []);
}

#[test]
fn unknown_and_foreign_numbers_are_told_apart_from_archived_ones() {
    let orders = Orders::new(orders_config(0));
    for id in [OrderId::new(0, 1).unwrap(), OrderId::new(1, 1).unwrap(), OrderId(0)] {
        let get = orders.decide(&OrderCommand::Get { order: id }, Timestamp(0));
        assert_eq!(get.err(), Some(OrderRejection::UnknownOrder { order: id }));
    }
}

#[test]
fn a_touch_says_where_availability_may_rise() {
    let mut network = stocked(5);
    place(&mut network, order(9, vec![line("A", 2)])).unwrap();
    let stock = &network.stocks[usize::from(Network::stock_of(&sku("A")))];
    let release = StockEvent::OpApplied {
        op: OrderOp {
            op: OpId(99),
            from: 0,
            acked_below: OpId(0),
            order: OrderId::new(0, 1).unwrap(),
            action: OpAction::Release,
        },
        outcome: OpOutcome::Done,
    };
    let touched = |event: &StockEvent| {
        let mut touched = Vec::new();
        stock.machine.touched(event, &mut |sku, location, touch| {
            touched.push((sku.clone(), location.cloned(), touch));
        });
        touched
    };
    let place = Some(Location::default());
    assert_eq!(touched(&release), [(sku("A"), place.clone(), Touch::Raises)]);
    let reserve = stock.journal.last().unwrap();
    assert_eq!(touched(reserve), [(sku("A"), place, Touch::Lowers)]);
}
