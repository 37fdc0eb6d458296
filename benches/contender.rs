//! What is asked of a system that takes part, and the list of those that do. How each is started
//! and spoken to is in `peers/`.

use std::{path::Path, sync::Arc};

use anyhow::Result;
use clap::ValueEnum;
use futures_util::future::{BoxFuture, try_join_all};

use crate::{
    peers::{http, postgres, redis, sqlite, tidegate, tigerbeetle},
    work::{Goods, Order, Outcome},
};

/// What takes its time; one box for each order, alike for all contenders.
pub(crate) type Waiting<'a, T> = BoxFuture<'a, Result<T>>;

/// A system that sells, started on an empty folder and stocked up.
pub(crate) trait Contender: Send + Sync {
    /// Places an order; ready when it is as durable as [`Entry::durability`] says.
    fn place<'a>(&'a self, order: &'a Order) -> Waiting<'a, Outcome>;

    /// How many orders a caller asks for together by [`Contender::place_many`], if that is another
    /// way than one by one. It is asked that way for fewer as well.
    fn at_once(&self) -> u64 {
        1
    }

    /// Places orders together; ready when all of them are.
    fn place_many<'a>(&'a self, orders: &'a [Order]) -> Waiting<'a, Vec<Outcome>> {
        Box::pin(try_join_all(orders.iter().map(|order| self.place(order))))
    }

    /// Units left of SKUs 0 to `skus` − 1.
    fn left(&self, skus: usize) -> Waiting<'_, Vec<u64>>;

    /// What the system has written to its log so far, if that is known.
    fn logged(&self) -> Option<Logged> {
        None
    }

    /// Ends in order, where that can fail. Dropping it ends everything that was started.
    fn end(&self) -> Waiting<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What a log has taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logged {
    pub(crate) syncs: u64,
    pub(crate) bytes: Option<u64>,
}

/// Who can take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Entry {
    /// In process.
    Tidegate,
    /// In process, each caller with many orders at a time.
    TidegateBulk,
    /// `tidegate serve`, by HTTP/1.1 with a connection for each order in flight.
    TidegateHttp,
    RedisAlways,
    RedisEverysec,
    Postgres,
    PostgresBatched,
    Sqlite,
    #[value(name = "tigerbeetle")]
    TigerBeetle,
}

impl Entry {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tidegate => "tidegate",
            Self::TidegateBulk => "tidegate-bulk",
            Self::TidegateHttp => "tidegate-http",
            Self::RedisAlways => "redis-always",
            Self::RedisEverysec => "redis-everysec",
            Self::Postgres => "postgres",
            Self::PostgresBatched => "postgres-batched",
            Self::Sqlite => "sqlite",
            Self::TigerBeetle => "tigerbeetle",
        }
    }

    /// What an answer means.
    pub(crate) fn durability(self) -> &'static str {
        match self {
            Self::RedisEverysec => "up to 2 s may be lost",
            _ => "synced before the answer",
        }
    }

    /// How it is set up, for the reader of the table.
    pub(crate) fn settings(self) -> String {
        match self {
            Self::Tidegate => "defaults; in process".to_owned(),
            Self::TidegateBulk => tidegate::bulk_settings(),
            Self::TidegateHttp => "defaults of `tidegate serve`; HTTP/1.1, loopback".to_owned(),
            Self::RedisAlways => redis::settings("always"),
            Self::RedisEverysec => redis::settings("everysec"),
            Self::Postgres => postgres::settings(false),
            Self::PostgresBatched => postgres::settings(true),
            Self::Sqlite => sqlite::settings(),
            Self::TigerBeetle => "one replica; pending, then post; client of its own".to_owned(),
        }
    }

    /// Which program takes part in which version, or why it can't.
    pub(crate) fn version(self) -> Result<String> {
        match self {
            Self::Tidegate | Self::TidegateBulk => Ok(env!("CARGO_PKG_VERSION").to_owned()),
            Self::TidegateHttp => http::version(),
            Self::RedisAlways | Self::RedisEverysec => redis::version(),
            Self::Postgres | Self::PostgresBatched => postgres::version(),
            Self::Sqlite => Ok(sqlite::version()),
            Self::TigerBeetle => tigerbeetle::version(),
        }
    }

    /// Whether it counts what each user has. TigerBeetle has no such thing: its orders are less.
    pub(crate) fn has_limits(self) -> bool {
        self != Self::TigerBeetle
    }

    /// How many in flight reach it. HTTP takes a connection for each, and a process has only so
    /// many files; PostgreSQL and SQLite are given less at a time, and the others wait outside.
    pub(crate) fn in_flight_max(self) -> u64 {
        match self {
            Self::TidegateHttp | Self::Postgres | Self::PostgresBatched | Self::Sqlite => 1_024,
            _ => u64::MAX,
        }
    }

    /// Starts it in the empty folder `data`, with `goods` in stock, for `in_flight` callers at a
    /// time.
    pub(crate) async fn start(
        self,
        data: &Path,
        goods: Goods<'_>,
        in_flight: u64,
    ) -> Result<Arc<dyn Contender>> {
        Ok(match self {
            Self::Tidegate => Arc::new(tidegate::InProcess::start(data, goods, None).await?),
            Self::TidegateBulk => Arc::new(tidegate::InProcess::bulk(data, goods).await?),
            Self::TidegateHttp => Arc::new(http::Served::start(data, goods, in_flight).await?),
            Self::RedisAlways | Self::RedisEverysec => {
                let fsync = if self == Self::RedisAlways { "always" } else { "everysec" };
                let socket = redis::Reach::SocketOnly;
                Arc::new(redis::Redis::start(data, goods, in_flight, fsync, socket).await?)
            }
            Self::Postgres => {
                Arc::new(postgres::Postgres::start(data, goods, Some(in_flight)).await?)
            }
            Self::PostgresBatched => Arc::new(postgres::Postgres::start(data, goods, None).await?),
            Self::Sqlite => Arc::new(sqlite::Sqlite::start(data, goods)?),
            Self::TigerBeetle => tigerbeetle::start(data, goods).await?,
        })
    }
}
