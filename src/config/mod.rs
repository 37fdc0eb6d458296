//! How the server is configured: defaults, then a TOML file, then the environment, then flags, read
//! as typed by `typed` and turned here into what the server works with, or refused with a reason.
//! It opens nothing.

mod access;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod typed;
mod webhooks;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use access::{AccessRules, ApiKey, Role, check_name, sha256};
use anyhow::{Context, bail};
use tidegate::{Builder, Intake, Sales, Tidegate, bounds, postgres::Options, webhooks::Endpoint};
pub(crate) use typed::DEFAULTS;
use typed::Typed;

/// Shards of one kind, at most.
const SHARDS_MAX: u16 = 1_024;

/// What a command line may set.
#[derive(Default)]
pub(crate) struct Flags {
    pub(crate) config: Option<PathBuf>,
    pub(crate) data: Option<PathBuf>,
    pub(crate) listen: Option<String>,
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) log: Log,
    pub(crate) store: Store,
    pub(crate) workers: usize,
    pub(crate) limits: Limits,
    intake: Option<Intake>,
    pub(crate) events: Events,
    pub(crate) timeouts: Timeouts,
    pub(crate) rates: Rates,
    pub(crate) access: AccessRules,
    pub(crate) tls: Option<Tls>,
    /// Whether there is the view of sales.
    sales_view: bool,
    /// The database that follows the store.
    pub(crate) postgres: Option<Options>,
    /// Where messages are posted to.
    pub(crate) webhooks: Vec<Endpoint>,
    /// What is not wrong but may not be meant.
    pub(crate) warnings: Vec<String>,
}

/// How to log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) json: bool,
    pub(crate) filter: String,
    pub(crate) requests: bool,
}

/// How to open the store.
#[derive(Debug)]
pub(crate) struct Store {
    order_shards: Option<u16>,
    stock_shards: Option<u16>,
    in_flight_max: usize,
    idempotency_retention_ms: u64,
}

/// How much of anything.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) body_bytes_max: usize,
    pub(crate) header_bytes_max: usize,
    pub(crate) order_lines_max: usize,
    pub(crate) batch_orders_max: usize,
    pub(crate) connections_max: usize,
}

/// How events are given to readers.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    pub(crate) streams_max: usize,
    pub(crate) heartbeat: Duration,
    retained_bytes: u64,
}

/// How long to wait.
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    pub(crate) head_read: Duration,
    pub(crate) body_read: Duration,
    pub(crate) idle: Duration,
    pub(crate) drain: Duration,
}

/// How often.
#[derive(Debug)]
pub(crate) struct Rates {
    pub(crate) per_address: Option<Rate>,
    pub(crate) per_key: Option<Rate>,
}

/// Requests per second, and how many may come at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// Where the certificate is.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) certificate_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Config {
    /// Reads and checks everything.
    pub(crate) fn load(flags: &Flags) -> anyhow::Result<Self> {
        let file = match &flags.config {
            Some(path) => Some(read(path)?),
            None => None,
        };
        let name = flags.config.as_deref().unwrap_or(Path::new("")).display().to_string();
        let file = file.as_deref().map(|text| (name.as_str(), text));
        Self::from_parts(file, std::env::vars_os(), flags)
    }

    /// The same, of parts already read: the file's name and text, and the environment.
    fn from_parts(
        file: Option<(&str, &str)>,
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        flags: &Flags,
    ) -> anyhow::Result<Self> {
        let mut warnings = Vec::new();
        let typed = typed::read(file, environment, flags, &mut warnings)?;
        let config = Self::check(typed, warnings)?;
        // A flag's path need not be UTF-8, and then its text is another one.
        Ok(Self { data: flags.data.clone().unwrap_or(config.data), ..config })
    }

    fn check(typed: Typed, warnings: Vec<String>) -> anyhow::Result<Self> {
        let listen: SocketAddr = typed.listen.parse().with_context(|| {
            format!("listen: {:?} is no address with a port, as 127.0.0.1:8080 is", typed.listen)
        })?;
        let access = AccessRules::check(typed.access)?;
        if access.keys.is_empty() && !listen.ip().is_loopback() {
            bail!(
                "listen: {listen} can be reached from other machines, and no API key is \
                 configured; make one with `tidegate config new-key` and put it under \
                 access.keys, or listen on 127.0.0.1"
            );
        }
        if typed.data.as_os_str().is_empty() {
            bail!("data: must name a folder");
        }
        let r = &typed.rates;
        let rates = Rates {
            per_address: rate("per_address", r.per_address_per_second, r.per_address_burst)?,
            per_key: rate("per_key", r.per_key_per_second, r.per_key_burst)?,
        };
        Ok(Self {
            data: typed.data,
            listen,
            log: log(typed.log)?,
            store: store(&typed.store)?,
            workers: number("http.workers", typed.http.workers, 0, 1_024)?,
            limits: limits(&typed.limits)?,
            intake: intake(&typed.intake)?,
            events: events(&typed.events)?,
            timeouts: timeouts(&typed.timeouts)?,
            rates,
            access,
            tls: tls(typed.tls)?,
            sales_view: typed.views.sales,
            postgres: postgres(&typed.postgres)?,
            webhooks: webhooks::check(&typed.webhooks)?,
            warnings,
        })
    }

    /// The store, not opened yet. Its shards have half the cores: connections and the disk need the
    /// other half, and fewer shards decide more at a time.
    pub(crate) fn builder(&self) -> Builder {
        let Store { order_shards, stock_shards, in_flight_max, idempotency_retention_ms } =
            self.store;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut builder = Tidegate::builder(&self.data)
            .arbiters((cores / 2).clamp(1, SHARDS_MAX.into()))
            .in_flight_max(in_flight_max)
            .events_retained_bytes(self.events.retained_bytes)
            .idempotency_retention_ms(idempotency_retention_ms);
        if let Some(shards) = order_shards {
            builder = builder.order_shards(shards);
        }
        if let Some(shards) = stock_shards {
            builder = builder.stock_shards(shards);
        }
        if let Some(intake) = self.intake {
            builder = builder.intake(intake);
        }
        if self.sales_view {
            builder = builder.view(Sales);
        }
        builder
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
}

fn log(typed: typed::Log) -> anyhow::Result<Log> {
    let json = match typed.format.as_str() {
        "text" => false,
        "json" => true,
        other => bail!("log.format: must be \"text\" or \"json\"; got {other:?}"),
    };
    check_level(&typed.level)?;
    Ok(Log { json, filter: typed.level, requests: typed.requests })
}

/// What a filter makes of a typing error is a filter that lets nothing through.
fn check_level(filter: &str) -> anyhow::Result<()> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for part in filter.split(',').filter(|part| !part.contains(['=', '[', '{', '"'])) {
        if !LEVELS.contains(&part.trim().to_lowercase().as_str()) {
            bail!("log.level: {part:?} is none of {}", LEVELS.join(", "));
        }
    }
    let parsed = tracing_subscriber::EnvFilter::try_new(filter);
    parsed.map(drop).with_context(|| format!("log.level: {filter:?}"))
}

fn store(typed: &typed::Store) -> anyhow::Result<Store> {
    const HOUR_MS: u64 = 60 * 60 * 1_000;
    const HOURS_MIN: u64 = bounds::IDEMPOTENCY_RETENTION_MS_MIN / HOUR_MS;
    const HOURS_MAX: u64 = 100 * 365 * 24;
    let hours = typed.idempotency_retention_hours;
    let hours: u64 = number("store.idempotency_retention_hours", hours, HOURS_MIN, HOURS_MAX)?;
    let shards = |name: &str, given| {
        let shards: u16 = number(&format!("store.{name}"), given, 0, SHARDS_MAX.into())?;
        anyhow::Ok((shards > 0).then_some(shards))
    };
    Ok(Store {
        order_shards: shards("order_shards", typed.order_shards)?,
        stock_shards: shards("stock_shards", typed.stock_shards)?,
        in_flight_max: number("store.in_flight_max", typed.in_flight_max, 1, 10_000_000)?,
        idempotency_retention_ms: hours * HOUR_MS,
    })
}

fn limits(typed: &typed::Limits) -> anyhow::Result<Limits> {
    /// What the HTTP parser takes at most.
    const HEAD_BYTES_MAX: u64 = 65_536;
    let lines_max = bounds::LINES_MAX as u64;
    let limit = |name: &str, given, min, max| number(&format!("limits.{name}"), given, min, max);
    Ok(Limits {
        body_bytes_max: limit("body_bytes_max", typed.body_bytes_max, 1_024, 1 << 28)?,
        header_bytes_max: limit("header_bytes_max", typed.header_bytes_max, 512, HEAD_BYTES_MAX)?,
        order_lines_max: limit("order_lines_max", typed.order_lines_max, 1, lines_max)?,
        batch_orders_max: limit("batch_orders_max", typed.batch_orders_max, 1, 1_000)?,
        connections_max: limit("connections_max", typed.connections_max, 1, 10_000_000)?,
    })
}

fn intake(typed: &typed::Intake) -> anyhow::Result<Option<Intake>> {
    let limit = |name: &str, given, min, max| number(&format!("intake.{name}"), given, min, max);
    let fastest = bounds::INTAKE_ORDERS_PER_SECOND_MAX.into();
    let per_second = limit("orders_per_second", typed.orders_per_second, 0, fastest)?;
    let intake = Intake {
        orders_per_second: u32::try_from(per_second)?,
        queued_max: limit("queued_max", typed.queued_max, 1, 10_000_000)?,
        deadline_ms: limit("deadline_ms", typed.deadline_ms, 1, bounds::INTAKE_DEADLINE_MS_MAX)?,
    };
    Ok((per_second > 0).then_some(intake))
}

fn events(typed: &typed::Events) -> anyhow::Result<Events> {
    let heartbeat_seconds = number("events.heartbeat_seconds", typed.heartbeat_seconds, 1, 3_600)?;
    Ok(Events {
        streams_max: number("events.streams_max", typed.streams_max, 1, 10_000_000)?,
        heartbeat: Duration::from_secs(heartbeat_seconds),
        retained_bytes: number("events.retained_bytes", typed.retained_bytes, 0, i64::MAX as u64)?,
    })
}

fn timeouts(typed: &typed::Timeouts) -> anyhow::Result<Timeouts> {
    const DAY_SECONDS: u64 = 24 * 60 * 60;
    // The parser's clock ticks twice a second, so less would end requests that are not slow.
    const HEAD_READ_MS_MIN: u64 = 1_000;
    let time = |name: &str, given, min, max| -> anyhow::Result<u64> {
        number(&format!("timeouts.{name}"), given, min, max)
    };
    let ms = |name: &str, given, min| {
        time(name, given, min, DAY_SECONDS * 1_000).map(Duration::from_millis)
    };
    let seconds = |name: &str, given| time(name, given, 0, DAY_SECONDS).map(Duration::from_secs);
    Ok(Timeouts {
        head_read: ms("head_read_ms_max", typed.head_read_ms_max, HEAD_READ_MS_MIN)?,
        body_read: ms("body_read_ms_max", typed.body_read_ms_max, 1)?,
        idle: seconds("idle_seconds_max", typed.idle_seconds_max)?,
        drain: seconds("drain_seconds_max", typed.drain_seconds_max)?,
    })
}

fn rate(name: &str, per_second: i64, burst: i64) -> anyhow::Result<Option<Rate>> {
    const MOST: u64 = 1_000_000;
    let per_second = number(&format!("rates.{name}_per_second"), per_second, 0, MOST)?;
    let burst = number(&format!("rates.{name}_burst"), burst, 1, MOST)?;
    Ok((per_second > 0).then_some(Rate { per_second, burst }))
}

fn tls(typed: typed::Tls) -> anyhow::Result<Option<Tls>> {
    let typed::Tls { certificate_file, key_file } = typed;
    match (certificate_file.as_os_str().is_empty(), key_file.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Tls { certificate_file, key_file })),
        _ => bail!("tls: give both certificate_file and key_file, or none"),
    }
}

fn postgres(typed: &typed::Postgres) -> anyhow::Result<Option<Options>> {
    let (events, ms) = (typed.batch_events_max, typed.batch_ms_max);
    let events = number("postgres.batch_events_max", events, 1, 100_000)?;
    let ms = number("postgres.batch_ms_max", ms, 0, 60_000)?;
    if typed.url.is_empty() {
        return Ok(None);
    }
    let options = Options::new(&typed.url).context("postgres.url")?;
    Ok(Some(options.batch_events_max(events).batch_ms_max(ms)))
}

/// A number within its bounds.
fn number<T: TryFrom<u64>>(name: &str, given: i64, min: u64, max: u64) -> anyhow::Result<T> {
    let within = u64::try_from(given).ok().filter(|number| (min..=max).contains(number));
    let number = within.and_then(|number| T::try_from(number).ok());
    number.with_context(|| format!("{name}: must be {min} to {max}; got {given}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> anyhow::Result<Config> {
        let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
        Config::from_parts(Some(("a.toml", text)), environment, &Flags::default())
    }

    fn refused(text: &str, environment: &[(&str, &str)]) -> String {
        format!("{:#}", load(text, environment).unwrap_err())
    }

    #[test]
    fn a_secret_is_not_shown_where_the_file_is_malformed() {
        let text = "[[webhooks.endpoints]]\nname = 'crm'\nsecret = whsec_AAAABBBB\n";
        let error = format!("{:#}", load(text, &[]).unwrap_err());
        assert!(error.contains("a.toml, line 3") && !error.contains("AAAA"), "{error}");
    }

    #[test]
    fn the_defaults_are_good_and_each_stage_goes_before_the_last() {
        let config = load("", &[]).unwrap();
        assert_eq!((config.listen.port(), config.limits.body_bytes_max), (8080, 1 << 20));
        let text = "listen = '127.0.0.1:1'\n[limits]\nbody_bytes_max = 2000\n";
        assert_eq!(load(text, &[]).unwrap().listen.port(), 1);
        let environment =
            [("TIDEGATE_LISTEN", "127.0.0.1:2"), ("TIDEGATE_LIMITS__BODY_BYTES_MAX", "3000")];
        let config = load(text, &environment).unwrap();
        assert_eq!((config.listen.port(), config.limits.body_bytes_max), (2, 3000));
        let flags = Flags { listen: Some("127.0.0.1:3".to_owned()), ..Flags::default() };
        let none: [(std::ffi::OsString, std::ffi::OsString); 0] = [];
        let config = Config::from_parts(Some(("a.toml", text)), none, &flags).unwrap();
        assert_eq!(config.listen.port(), 3);
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (text, parts) in [
            ("lisen = '1'", vec!["unknown", "`lisen`", "`listen`"]),
            ("[limits]\nbody_byte_max = 1", vec!["limits.body_byte_max", "body_bytes_max"]),
            ("[limits]\nbody_bytes_max = 1", vec!["limits.body_bytes_max", "must be 1024"]),
            ("[limits]\nbody_bytes_max = 'x'", vec!["body_bytes_max"]),
            ("listen = 'here'", vec!["listen", "here"]),
            ("listen = '0.0.0.0:80'", vec!["0.0.0.0:80", "no API key"]),
            ("[log]\nformat = 'xml'", vec!["log.format", "xml"]),
            ("[tls]\nkey_file = 'x'", vec!["tls", "both"]),
            ("[access]\nallow = ['10.0.0.0/99']", vec!["access.allow", "10.0.0.0/99"]),
            ("[[access.keys]]\nname = 'a'\nrol = 'x'", vec!["access.keys", "rol", "role"]),
            ("[[access.keys]]\nname = 'a'\nrole = 'king'\nsha256 = ''", vec!["king", "admin"]),
            ("[[access.keys]]\nname = 'a'\nrole = 'read'\nsha256 = 'ff'", vec!["sha256", "64"]),
            ("[access]\ndeny_keys = ['b']", vec!["deny_keys", "b"]),
            (
                "[events]\nheartbeat_second = 1",
                vec!["events.heartbeat_second", "heartbeat_seconds"],
            ),
            ("[events]\nheartbeat_seconds = 0", vec!["events.heartbeat_seconds", "must be 1"]),
            ("[events]\nstreams_max = 0", vec!["events.streams_max", "must be 1"]),
            ("[intake]\norders_per_second = 1000001", vec!["intake.orders_per_second", "0 to"]),
            ("[intake]\nqueued_max = 0", vec!["intake.queued_max", "must be 1"]),
            ("[intake]\ndeadline_ms = 0", vec!["intake.deadline_ms", "must be 1"]),
            ("[store]\nidempotency_retention_hours = 1", vec!["retention_hours", "24"]),
            ("[store]\nstock_shards = -1", vec!["store.stock_shards: must be 0 to 1024", "-1"]),
            ("[http]\nworkers = 100000", vec!["http.workers", "1024"]),
            ("[timeouts]\nidle_seconds_max = 9223372036854775807", vec!["idle_seconds", "86400"]),
            ("[timeouts]\nbody_read_ms_max = 9223372036854775807", vec!["body_read", "86400000"]),
            ("[timeouts]\nhead_read_ms_max = 999", vec!["head_read_ms_max", "1000"]),
            ("[limits]\nconnections_max = 0", vec!["limits.connections_max", "must be 1"]),
            ("[rates]\nper_key_per_second = 1\nper_key_burst = 0", vec!["per_key_burst"]),
            ("[log]\nlevel = 'loud'", vec!["log.level", "loud", "trace"]),
            ("[log]\nlevel = 'a=b=c'", vec!["log.level", "a=b=c"]),
            ("data = ''", vec!["data"]),
            ("[postgres]\nurl = 'db.example'", vec!["postgres.url", "postgres://"]),
            ("[postgres]\nbatch_events_max = 0", vec!["postgres.batch_events_max", "must be 1"]),
            ("[[access.keys]]\nname = 'a'\nrole = 'read'", vec!["access.keys", "`sha256`"]),
            ("[access]\nkeys = ['tg_1']", vec!["access.keys", "table"]),
        ] {
            let error = refused(text, &[]);
            for part in parts {
                assert!(error.contains(part), "{part:?} is missing in {error:?} for {text:?}");
            }
        }
    }

    #[test]
    fn a_password_is_shown_to_nobody() {
        let config = load("", &[("TIDEGATE_POSTGRES__URL", "postgres://u:secret@h/d")]).unwrap();
        let shown = format!("{config:?}");
        assert!(config.postgres.is_some() && !shown.contains("secret"), "{shown}");
        let error = refused("", &[("TIDEGATE_POSTGRES__URL", "postgres://u:secret@h:x/d")]);
        assert!(!error.contains("secret"), "{error}");
    }

    #[test]
    fn names_in_the_environment_are_checked_where_they_are_surely_meant() {
        let error = refused("", &[("TIDEGATE_LIMITS__BODY_BYTE_MAX", "1")]);
        assert!(error.contains("TIDEGATE_LIMITS__BODY_BYTES_MAX"), "{error}");
        let error = refused("", &[("TIDEGATE_DAAT", "1")]);
        assert!(error.contains("`TIDEGATE_DAAT`; did you mean `TIDEGATE_DATA`?"), "{error}");
        // What is put there by mistake may be a secret.
        let error = refused("", &[("TIDEGATE_ACCESS__KEYS", "tg_secret")]);
        assert!(error.contains("must be an array") && !error.contains("tg_secret"), "{error}");
        for of_clients in ["TIDEGATE_KEY", "TIDEGATE_URL"] {
            assert!(load("", &[(of_clients, "tg_secret")]).unwrap().warnings.is_empty());
        }
        // Kubernetes sets such for a service of this name.
        let config = load("", &[("TIDEGATE_SERVICE_HOST", "10.0.0.1")]).unwrap();
        assert!(config.warnings[0].contains("TIDEGATE_SERVICE_HOST"), "{:?}", config.warnings);
        assert!(load("", &[("OTHER_LIMITS__X", "1")]).unwrap().warnings.is_empty());
    }
}
