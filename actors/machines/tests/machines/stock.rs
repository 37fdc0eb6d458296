//! Stock by scenarios. Levels read `on_hand held allocated`.

use crate::scenario::check;

#[test]
fn what_is_sold_is_there() {
    check("stock A 2 | place ann A 2 | place bob A 1 => sold_out | level A => 2 2 0");
    check("stock A 2 | place ann A 1 A 1 | level A => 2 2 0");
    check("stock A 2 | place ann A 1 A 2 => sold_out | level A => 2 0 0");
    check("place ann A 1 => unknown_sku");
    check(
        "stock A 5 | place ann A 2 | adjust A -4 => below_committed \
         | adjust A -3 | level A => 2 2 0",
    );
    check("stock A 1 | adjust A -2 => below_committed | adjust A 0 => invalid");
    check("adjust A 1 => unknown_sku");
}

#[test]
fn orders_are_all_or_nothing_over_shards() {
    check(
        "stock A 5 | stock B 5 | stock C 5 | stock D 1 | place ann A 1 B 1 C 1 D 2 => sold_out \
         | level A => 5 0 0 | level B => 5 0 0 | level C => 5 0 0 | level D => 1 0 0",
    );
    check("stock A 5 | stock B 5 | stock C 1 | place ann A 1 B 2 C 1 | level B => 5 2 0");
}

#[test]
fn limits_count_held_sold_and_shipped_units() {
    check(
        "stock A 9 | limit A 2 | place ann A 3 => limit_exceeded | place ann A 2 | place bob A 2",
    );
    check("stock A 9 | limit A 2 | place ann A 2 | place ann A 1 => limit_exceeded");
    check("stock A 9 | limit A 2 | place ann A 2 | sleep 2000 | place ann A 2");
    check("stock A 9 | limit A 2 | place ann A 2 | cancel #1 | place ann A 2");
    check(
        "stock A 9 | limit A 2 | place ann A 2@10 | pay #1 10 e1 | ship #1 \
         | place ann A 1 => limit_exceeded | return #1 A 1 | place ann A 1",
    );
    check(
        "stock A 9 | limit A 2 | place ann A 2@10 | pay #1 10 e1 | ship #1 \
         | scrap #1 A 2 | level A => 7 0 0 | place ann A 2",
    );
    check("stock A 9 | place ann A 2 | limit A 2 | place ann A 1 => limit_exceeded");
    check("stock A 9 | limit A 2 | place ann A 2 | limit A none | place ann A 5");
    check("stock A 9 | limit A 0 | place ann A 1 => limit_exceeded");
    check("stock A 1 | limit A 2 | place ann A 3 => limit_exceeded | place ann A 2 => sold_out");
}

#[test]
fn backorders_are_capped_and_shipped_only_from_stock() {
    check(
        "stock A 1 | backorder A 2 | place ann A 3 | place bob A 1 => sold_out | level A => 1 3 0",
    );
    check("stock A 1 | backorder A 2 | place ann A 3 | backorder A 1 => backorder_in_use");
    check(
        "stock A 1 | backorder A 2 | place ann A 3@9 | pay #1 9 e1 | ship #1 => not_in_stock \
         | state #1 => confirmed | fulfilment #1 => unfulfilled | level A => 1 0 3 \
         | ship #1 A 1 | fulfilment #1 => partial | adjust A 2 | ship #1 | level A => 0 0 0 \
         | state #1 => completed",
    );
    check(
        "stock A 5 | backorder A 2 | place ann A 6 | adjust A -1 | adjust A -1 => below_committed",
    );
}

#[test]
fn holds_have_one_outcome() {
    check("stock A 2 | hold ann A 2 | level A => 2 2 0 | hold bob A 1 => sold_out");
    check("stock A 2 | hold ann A 2 | confirm h1 | confirm h1 | release h1 => hold_settled");
    check("stock A 2 | hold ann A 2 | release h1 | release h1 | confirm h1 => hold_settled");
    check("stock A 2 | hold ann A 2 | sleep 1000 | confirm h1 => hold_settled | level A => 2 0 0");
    check("stock A 2 | hold ann A 2 | extend h1 5000 | sleep 1000 | confirm h1 | level A => 2 0 2");
    check(
        "stock A 2 | hold ann A 2 | leave h1 => hold_not_confirmed | confirm h1 | leave h1 \
           | leave h1 | level A => 0 0 0",
    );
    check("stock A 2 | hold ann A 2 | release h1 | extend h1 5 => hold_settled");
    check("stock A 2 | limit A 1 | hold ann A 2 => limit_exceeded | hold ann A 0 => invalid");
    check("stock A 2 | hold ann A 1 | release h1 | sleep 90000000 | holds h1 => unknown_hold");
    check("stock A 2 | hold ann A 1 | confirm h1 | sleep 90000000 | leave h1 | level A => 1 0 0");
}
