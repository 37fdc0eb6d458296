//! The tables and how they came to be: numbered SQL files, each applied once, in a transaction, by
//! whoever holds the lock. A file that was released is never changed; what is new gets the next.

use tokio_postgres::Client;

use super::Error;

/// Every file, in order; the number of the last is the version of the tables.
const MIGRATIONS: &[(i32, &str, &str)] =
    &[(1, "0001_tables", include_str!("migrations/0001_tables.sql"))];

/// Where the tables are, and what is known of the files that were applied.
const FOUNDATION: &str = "
    create schema if not exists tidegate;
    create table if not exists tidegate.migrations (
        version integer primary key,
        name text not null,
        applied_at timestamptz not null default now()
    );
    comment on table tidegate.migrations is 'Which versions of the tables were made, and when.';
";

/// The newest version that this program knows.
pub(super) fn known() -> i32 {
    MIGRATIONS.last().map_or(0, |(version, ..)| *version)
}

/// The version of the tables; `None` if there are none.
pub(super) async fn found(client: &Client) -> Result<Option<i32>, Error> {
    let there = "select to_regclass('tidegate.migrations') is not null";
    if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let newest = "select max(version) from tidegate.migrations";
    Ok(client.query_one(newest, &[]).await?.get(0))
}

/// Brings the tables to the newest version. Only for who holds the lock.
pub(super) async fn migrate(client: &mut Client) -> Result<(), Error> {
    let found = found(client).await?;
    if let Some(found) = found.filter(|found| *found > known()) {
        return Err(Error::NewerSchema { found, known: known() });
    }
    if found.is_none() {
        client.batch_execute(FOUNDATION).await?;
    }
    for (version, name, sql) in MIGRATIONS {
        if found.is_some_and(|found| *version <= found) {
            continue;
        }
        let migration = client.transaction().await?;
        migration.batch_execute(sql).await?;
        let note = "insert into tidegate.migrations (version, name) values ($1, $2)";
        migration.execute(note, &[version, name]).await?;
        migration.commit().await?;
        tracing::info!(version, name, "the tables in PostgreSQL are brought to a new version");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_up_without_gaps() {
        for (expected, (version, name, _)) in (1..).zip(MIGRATIONS) {
            assert_eq!(*version, expected);
            assert!(name.starts_with(&format!("{version:04}_")), "{name}");
        }
    }
}
