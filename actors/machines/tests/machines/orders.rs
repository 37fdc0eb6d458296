//! Orders by scenarios. Stock levels read `on_hand held allocated`.

use crate::scenario::check;

#[test]
fn an_order_lives() {
    check(
        "stock A 5 | place ann A 2@50 | state #1 => awaiting_payment | payment #1 => unpaid \
         | pay #1 50 e1 | state #1 => confirmed | payment #1 => paid | level A => 5 0 2 \
         | ship #1 | state #1 => completed | fulfilment #1 => fulfilled | level A => 3 0 0 \
         | return #1 A 1 | refund_due #1 => 25 | payment #1 => refund_due | level A => 4 0 0 \
         | refund #1 25 e2 | refund_due #1 => 0 | payment #1 => partially_refunded \
         | fulfilment #1 => partially_returned",
    );
    check(
        "stock A 5 | price A 7 | place ann A 2 | total #1 => 14 | place ann A 2@1 | total #2 => 1",
    );
    check(
        "stock A 5 | price A 9007199254740991 | place ann A 2 => amount_overflow \
         | level A => 5 0 0",
    );
    check("stock A 5 | place ann A 1 | pay #1 0 e1 | state #1 => confirmed");
    check("stock A 5 | place ann A 0 => invalid | place ann A 1000001 => invalid");
    check(
        "stock A 5 | place ann A 600000 A 600000 => invalid | place ann A 1@5 A 1 => mixed_amounts",
    );
}

#[test]
fn rejected_orders_leave_no_trace_unless_queued() {
    check("stock A 1 | place ann A 2 => sold_out | state #1 => gone");
    check(
        "stock A 1 | queue ann A 2 | deliver | state #1 => rejected \
         | pay #1 5 e1 | refund_due #1 => 5",
    );
    check(
        "stock A 2 | queue ann A 2 | state #1 => queued | deliver | state #1 => awaiting_payment",
    );
}

#[test]
fn payments_come_in_any_order() {
    check("stock A 1 | place ann A 1@9 | pay #1 9 e1 | pay #1 9 e1 | payment #1 => paid");
    check("stock A 1 | place ann A 1@9 | pay #1 9 e1 | pay #1 8 e1 => payment_conflict");
    check(
        "stock A 1 | place ann A 1@9 | pay #1 4 e1 | payment #1 => partially_paid | pay #1 5 e2 \
           | state #1 => confirmed",
    );
    check("stock A 1 | place ann A 1@9 | pay #1 9 e2 | authorize #1 9 e1 | payment #1 => paid");
    check("stock A 1 | place ann A 1@9 | authorize #1 9 e1 | payment #1 => authorized");
    check("stock A 1 | place ann A 1@9 | fail #1 9 e1 | payment #1 => unpaid | pay #1 9 e2");
    check(
        "stock A 1 | place ann A 1@9 | pay #1 12 e1 | refund_due #1 => 3 | state #1 => confirmed",
    );
    check("stock A 1 | queue ann A 1@9 | pay #1 9 e1 | deliver | state #1 => confirmed");
    check(
        "stock A 1 | place ann A 1@9 | refund #1 9 e2 | pay #1 9 e1 | state #1 => awaiting_payment",
    );
}

#[test]
fn a_late_payment_reserves_once_more() {
    check(
        "stock A 1 | place ann A 1@9 | sleep 1000 | state #1 => expired | level A => 1 0 0 \
           | pay #1 9 e1 | state #1 => confirmed | level A => 1 0 1",
    );
    check(
        "stock A 1 | place ann A 1@9 | sleep 1000 | place bob A 1 | pay #1 9 e1 \
           | state #1 => expired | refund_due #1 => 9 | refund #1 9 e2 | payment #1 => refunded",
    );
    check(
        "stock A 1 | place ann A 1@9 | sleep 1000 | place bob A 1 | pay #1 9 e1 | cancel #2 \
           | pay #1 9 e2 | state #1 => expired | refund_due #1 => 18",
    );
    check("stock A 1 | place ann A 1@9 | pay #1 4 e1 | sleep 1000 | refund_due #1 => 4");
    check(
        "stock A 1 | place ann A 1@9 | cancel #1 | pay #1 9 e1 | state #1 => cancelled \
           | refund_due #1 => 9",
    );
}

#[test]
fn cancelling_frees_what_was_not_shipped() {
    check("stock A 1 | place ann A 1 | cancel #1 | cancel #1 | level A => 1 0 0");
    check(
        "stock A 1 | place ann A 1@9 | pay #1 9 e1 | cancel #1 | level A => 1 0 0 \
           | refund_due #1 => 9",
    );
    check("stock A 2 | place ann A 2@9 | pay #1 9 e1 | ship #1 A 1 | cancel #1 => already_shipped");
    check("stock A 1 | place ann A 1 | sleep 1000 | cancel #1 => wrong_state");
    check("stock A 1 | queue ann A 1 | cancel #1 | state #1 => cancelled | level A => 1 0 0");
    check("stock A 1 | queue ann A 2 | cancel #1 | state #1 => cancelled | level A => 1 0 0");
}

#[test]
fn shipping_and_returning_are_bounded() {
    check(
        "stock A 2 | place ann A 2@9 | ship #1 => wrong_state | pay #1 9 e1 \
         | ship #1 A 3 => too_many \
           | ship #1 B 1 => unknown_line | return #1 A 1 => too_many | ship #1 A 1 A 1 \
           | return #1 A 3 => too_many | ship #1 => wrong_state",
    );
    check(
        "stock A 3 | place ann A 3@10 | pay #1 10 e1 | ship #1 | return #1 A 1 \
         | refund_due #1 => 3 \
           | return #1 A 1 | refund_due #1 => 6 | return #1 A 1 | refund_due #1 => 10 \
           | fulfilment #1 => returned",
    );
}

#[test]
fn forgotten_orders_come_back_when_needed() {
    check(
        "stock A 1 | place ann A 1@9 | pay #1 9 e1 | forget | memory #1 => forgotten \
           | get #1 => at_rest | ship #1 | memory #1 => live | state #1 => completed | forget \
           | return #1 A 1 | level A => 1 0 0 | refund_due #1 => 9",
    );
    check("stock A 1 | place ann A 1 | forget | memory #1 => live");
}

#[test]
fn while_a_stock_shard_is_down_the_others_forget_as_ever() {
    let more = "place ann A 1 | place bob A 1 | ".repeat(20);
    check(&format!(
        "stock A 50 | stock B 5 | down B | queue ann B 1 | {more} remembered A => 1 \
         | remembered B => 0 | state #1 => queued | up | state #1 => awaiting_payment \
         | place ann B 1 | remembered B => 1 | level A => 50 40 0 | level B => 5 2 0",
    ));
}
