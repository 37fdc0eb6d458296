//! How far a database is, as it says itself: for operators, from anywhere, while a worker runs or
//! none does. It asks no store and changes nothing.

use serde::Serialize;

use super::{Error, Options, connect::APPLICATION, schema, worker::LOCK};

/// How far a database is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    /// The version of its tables; `None` if there are none.
    pub schema_version: Option<i32>,
    /// The version that this program knows.
    pub schema_version_known: i32,
    /// The store that it follows.
    pub store_id: Option<String>,
    /// It has everything up to this position; `None` if it is to be loaded.
    pub position: Option<i64>,
    /// The end of the journal when a worker last looked.
    pub store_position: Option<i64>,
    /// Records between the two.
    pub lag_records: Option<i64>,
    /// How long ago it had everything, in milliseconds; 0 if it has.
    pub lag_ms: Option<i64>,
    /// When the last event that it has happened, RFC 3339.
    pub event_at: Option<String>,
    /// When its position last moved, RFC 3339.
    pub written_at: Option<String>,
    /// When a worker was last there, RFC 3339.
    pub seen_at: Option<String>,
    /// Whether a worker is at work.
    pub working: bool,
    /// Workers that wait for their turn.
    pub waiting: i64,
}

impl Status {
    /// Whether a worker is at work on tables that this program knows.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let known = self.schema_version.is_some_and(|found| found <= self.schema_version_known);
        self.working && known
    }
}

/// Asks the database.
///
/// # Errors
/// [`Error::Database`]: it can't be reached, or refuses.
pub async fn status(options: &Options) -> Result<Status, Error> {
    let client = options.address.connect().await?;
    let mut status = Status { schema_version_known: schema::known(), ..Status::default() };
    status.schema_version = schema::found(&client).await?;
    // The two halves of the lock's number are columns of their own.
    let locks = "select exists (select 1 from pg_locks \
                 where locktype = 'advisory' and objsubid = 1 and granted \
                 and classid::bigint = $1::bigint >> 32 \
                 and objid::bigint = $1::bigint & 4294967295 and database = \
                 (select oid from pg_database where datname = current_database())), \
                 (select count(*) from pg_stat_activity where application_name = $2 \
                 and datname = current_database() and pid <> pg_backend_pid())";
    let row = client.query_one(locks, &[&LOCK, &APPLICATION]).await?;
    status.working = row.get(0);
    status.waiting = (row.get::<_, i64>(1) - i64::from(status.working)).max(0);
    if status.schema_version.is_none() {
        return Ok(status);
    }
    let at = |column| {
        format!("to_char({column} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')")
    };
    let sync = format!(
        "select store_id, position, store_position, greatest(store_position - position, 0), \
         case when store_position <= position then 0 \
         else (extract(epoch from now() - caught_up_at) * 1000)::bigint end, {}, {}, {} \
         from tidegate.sync",
        at("event_at"),
        at("written_at"),
        at("seen_at"),
    );
    if let Some(row) = client.query_opt(&sync, &[]).await? {
        status.store_id = row.get(0);
        status.position = row.get(1);
        status.store_position = row.get(2);
        status.lag_records = row.get(3);
        status.lag_ms = row.get(4);
        status.event_at = row.get(5);
        status.written_at = row.get(6);
        status.seen_at = row.get(7);
    }
    Ok(status)
}
