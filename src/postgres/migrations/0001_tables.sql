-- The tables that follow a Tidegate store. Written by its worker only; readers need SELECT.
-- Amounts are minor units, counts are units, times are those of the events.

create table tidegate.sync (
    only_row boolean primary key default true check (only_row),
    store_id text not null,
    position bigint,
    event_at timestamptz,
    written_at timestamptz not null default now(),
    store_position bigint,
    seen_at timestamptz not null default now(),
    caught_up_at timestamptz
);
comment on table tidegate.sync is
    'One row: how far this database is. Written in the transaction that writes the rows.';
comment on column tidegate.sync.store_id is 'The store that this database follows.';
comment on column tidegate.sync.position is
    'Every table holds the events up to this position of the journal, and no later one. Null: all is to be loaded anew.';
comment on column tidegate.sync.event_at is 'When the last event that is in here happened.';
comment on column tidegate.sync.written_at is 'When the position last moved.';
comment on column tidegate.sync.store_position is
    'The end of the journal when the worker last looked: minus position, the lag in records.';
comment on column tidegate.sync.seen_at is 'When the worker was last at work here.';
comment on column tidegate.sync.caught_up_at is 'When there was last nothing left to write.';

create table tidegate.orders (
    id text collate "C" primary key,
    user_id text not null,
    state text not null check (state in ('queued', 'awaiting_payment', 'confirmed', 'completed',
        'rejected', 'cancelled', 'expired')),
    total_minor bigint,
    captured_minor bigint not null,
    refunded_minor bigint not null,
    refund_due_minor bigint not null,
    payment_status text not null,
    fulfilment_status text not null,
    authorized boolean not null,
    placed_at timestamptz not null,
    changed_at timestamptz not null,
    expires_at timestamptz,
    rejection_code text,
    rejection_message text,
    position bigint not null
);
create index orders_by_user on tidegate.orders (user_id, placed_at desc);
create index orders_by_time on tidegate.orders (placed_at);
comment on table tidegate.orders is
    'Orders as the HTTP interface shows them, those included that were refused after they were placed.';
comment on column tidegate.orders.user_id is 'The API''s "user", which is a reserved word here.';
comment on column tidegate.orders.total_minor is 'Null unless the order was ever accepted.';
comment on column tidegate.orders.authorized is 'Whether a provider ever said that money is set aside.';
comment on column tidegate.orders.rejection_code is
    'Why it was rejected. Null if the store had forgotten it before it was written here.';
comment on column tidegate.orders.position is 'The record of the journal that last changed this row.';

create table tidegate.order_lines (
    order_id text collate "C" not null,
    line integer not null,
    sku text collate "C" not null,
    location text collate "C" not null,
    stock_shard integer not null,
    quantity bigint not null,
    amount_minor bigint,
    shipped bigint not null,
    returned bigint not null,
    primary key (order_id, line)
);
create index order_lines_by_sku on tidegate.order_lines (sku);
comment on table tidegate.order_lines is
    'What is bought: one row for each SKU and location of an order (orders.id), numbered from 1.';
comment on column tidegate.order_lines.amount_minor is
    'Of the whole line. Null until the price is known, and if the order was never accepted.';

create table tidegate.payments (
    order_id text collate "C" not null,
    provider text collate "C" not null,
    event_id text collate "C" not null,
    kind text not null check (kind in ('authorized', 'captured', 'failed', 'refunded')),
    amount_minor bigint not null,
    at timestamptz not null,
    position bigint not null,
    primary key (order_id, provider, event_id)
);
create index payments_by_time on tidegate.payments (at);
comment on table tidegate.payments is 'What payment providers said of orders (orders.id). Only added to.';

create table tidegate.skus (
    sku text collate "C" primary key,
    price_minor bigint,
    currency text,
    limit_per_user bigint,
    backorder_limit bigint not null,
    position bigint not null
);
comment on table tidegate.skus is 'The options of each SKU.';

create table tidegate.stock (
    sku text collate "C" not null,
    location text collate "C" not null,
    on_hand bigint not null,
    held bigint not null,
    allocated bigint not null,
    available bigint not null generated always as (on_hand - held - allocated) stored,
    position bigint not null,
    primary key (sku, location)
);
comment on table tidegate.stock is
    'Units by SKU and location: always the sum of the movements of that SKU and location.';

create table tidegate.holds (
    id text collate "C" primary key,
    user_id text not null,
    sku text collate "C" not null,
    location text collate "C" not null,
    quantity bigint not null,
    state text not null check (state in ('held', 'confirmed', 'released', 'expired', 'unknown')),
    placed_at timestamptz not null,
    expires_at timestamptz not null,
    settled_at timestamptz,
    shipped_at timestamptz,
    position bigint not null
);
comment on table tidegate.holds is
    'Holds without an order. "unknown": the store had forgotten it before its end was written here.';

create table tidegate.movements (
    position bigint not null,
    number integer not null,
    at timestamptz not null,
    kind text not null,
    sku text collate "C" not null,
    location text collate "C" not null,
    on_hand bigint not null,
    held bigint not null,
    allocated bigint not null,
    order_id text collate "C",
    hold_id text collate "C",
    reason text,
    primary key (position, number)
);
create index movements_by_sku on tidegate.movements (sku, location, position);
create index movements_by_order on tidegate.movements (order_id) where order_id is not null;
comment on table tidegate.movements is
    'Every change of stock, by what it added to each number. Only added to.';
comment on column tidegate.movements.number is
    'Counts the movements of one record from 1, and what was loaded there from -1 down.';
comment on column tidegate.movements.kind is
    'The kind of the event, or "opening": what the journal no longer told when it was first read.';
