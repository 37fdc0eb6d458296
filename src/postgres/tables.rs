//! The columns of every table, and the SQL that follows from them: whole batches at a time, each
//! column as one array (`unnest`). It knows no row; `migrations/` is what makes the tables.

/// A table: its name, its key, and its columns with their types.
pub(super) struct Table {
    name: &'static str,
    key: &'static str,
    columns: &'static [(&'static str, &'static str)],
}

pub(super) const ORDERS: Table = Table {
    name: "orders",
    key: "id",
    columns: &[
        ("id", "text"),
        ("user_id", "text"),
        ("state", "text"),
        ("total_minor", "bigint"),
        ("captured_minor", "bigint"),
        ("refunded_minor", "bigint"),
        ("refund_due_minor", "bigint"),
        ("payment_status", "text"),
        ("fulfilment_status", "text"),
        ("authorized", "boolean"),
        ("placed_at", "timestamptz"),
        ("changed_at", "timestamptz"),
        ("expires_at", "timestamptz"),
        ("rejection_code", "text"),
        ("rejection_message", "text"),
        ("position", "bigint"),
    ],
};

pub(super) const LINES: Table = Table {
    name: "order_lines",
    key: "order_id, line",
    columns: &[
        ("order_id", "text"),
        ("line", "integer"),
        ("sku", "text"),
        ("location", "text"),
        ("stock_shard", "integer"),
        ("quantity", "bigint"),
        ("amount_minor", "bigint"),
        ("shipped", "bigint"),
        ("returned", "bigint"),
    ],
};

pub(super) const PAYMENTS: Table = Table {
    name: "payments",
    key: "order_id, provider, event_id",
    columns: &[
        ("order_id", "text"),
        ("provider", "text"),
        ("event_id", "text"),
        ("kind", "text"),
        ("amount_minor", "bigint"),
        ("at", "timestamptz"),
        ("position", "bigint"),
    ],
};

pub(super) const SKUS: Table = Table {
    name: "skus",
    key: "sku",
    columns: &[
        ("sku", "text"),
        ("price_minor", "bigint"),
        ("currency", "text"),
        ("limit_per_user", "bigint"),
        ("backorder_limit", "bigint"),
        ("position", "bigint"),
    ],
};

pub(super) const STOCK: Table = Table {
    name: "stock",
    key: "sku, location",
    columns: &[
        ("sku", "text"),
        ("location", "text"),
        ("on_hand", "bigint"),
        ("held", "bigint"),
        ("allocated", "bigint"),
        ("position", "bigint"),
    ],
};

pub(super) const HOLDS: Table = Table {
    name: "holds",
    key: "id",
    columns: &[
        ("id", "text"),
        ("user_id", "text"),
        ("sku", "text"),
        ("location", "text"),
        ("quantity", "bigint"),
        ("state", "text"),
        ("placed_at", "timestamptz"),
        ("expires_at", "timestamptz"),
        ("settled_at", "timestamptz"),
        ("shipped_at", "timestamptz"),
        ("position", "bigint"),
    ],
};

pub(super) const MOVEMENTS: Table = Table {
    name: "movements",
    key: "position, number",
    columns: &[
        ("position", "bigint"),
        ("number", "integer"),
        ("at", "timestamptz"),
        ("kind", "text"),
        ("sku", "text"),
        ("location", "text"),
        ("on_hand", "bigint"),
        ("held", "bigint"),
        ("allocated", "bigint"),
        ("order_id", "text"),
        ("hold_id", "text"),
        ("reason", "text"),
    ],
};

impl Table {
    /// Writes rows over those with the same key.
    pub(super) fn upsert(&self) -> String {
        let names = self.names();
        let arrays: Vec<_> = (1..)
            .zip(self.columns)
            .map(|(number, (_, kind))| format!("${number}::{kind}[]"))
            .collect();
        let new: Vec<_> = self
            .columns
            .iter()
            .map(|(column, _)| format!("{column} = excluded.{column}"))
            .collect();
        let (arrays, new, Self { name, key, .. }) = (arrays.join(", "), new.join(", "), self);
        format!(
            "insert into tidegate.{name} ({names}) select * from unnest({arrays}) \
             on conflict ({key}) do update set {new}"
        )
    }

    /// Reads rows by one array or more of their keys.
    pub(super) fn by_keys(&self) -> String {
        let key = self.key;
        let arrays = key.split(", ").enumerate().map(|(at, _)| format!("${}::text[]", at + 1));
        let arrays = arrays.collect::<Vec<_>>().join(", ");
        let (names, name) = (self.names(), self.name);
        format!(
            "select {names} from tidegate.{name} \
             where ({key}) in (select * from unnest({arrays}))"
        )
    }

    fn names(&self) -> String {
        self.columns.iter().map(|(column, _)| *column).collect::<Vec<_>>().join(", ")
    }
}
