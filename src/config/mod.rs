//! How the server is configured: defaults, then a TOML file, then the environment, then flags, read
//! as typed by `typed` and turned here into what the server works with, or refused with a reason.
//! It opens nothing.

mod access;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod typed;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use access::{AccessRules, ApiKey, Role, sha256};
use anyhow::{Context, bail};
use tidegate::{Builder, Tidegate, bounds};
pub(crate) use typed::DEFAULTS;
use typed::Typed;

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
    pub(crate) timeouts: Timeouts,
    pub(crate) rates: Rates,
    pub(crate) access: AccessRules,
    pub(crate) tls: Option<Tls>,
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
        Self::check(typed, warnings)
    }

    fn check(typed: Typed, warnings: Vec<String>) -> anyhow::Result<Self> {
        let listen: SocketAddr = typed.listen.parse().with_context(|| {
            format!("listen: {:?} is no address with a port, as 127.0.0.1:8080 is", typed.listen)
        })?;
        let access = AccessRules::check(typed.access)?;
        if access.keys.is_empty() && !listen.ip().is_loopback() {
            bail!(
                "listen: {listen} can be reached from other machines, and no API key is \
                 configured; add one under access.keys, or listen on 127.0.0.1"
            );
        }
        let limits = limits(&typed.limits)?;
        let ms = Duration::from_millis;
        // The parser's clock ticks twice a second, so less would end requests that are not slow.
        const HEAD_READ_MS_MIN: u64 = 1_000;
        let head_read_ms_max = typed.timeouts.head_read_ms_max;
        let head_read_ms_max =
            range("timeouts.head_read_ms_max", head_read_ms_max, HEAD_READ_MS_MIN, u64::MAX)?;
        let timeouts = Timeouts {
            head_read: ms(head_read_ms_max),
            body_read: ms(positive("timeouts.body_read_ms_max", typed.timeouts.body_read_ms_max)?),
            idle: Duration::from_secs(typed.timeouts.idle_seconds_max),
            drain: Duration::from_secs(typed.timeouts.drain_seconds_max),
        };
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
            workers: typed.http.workers,
            limits,
            timeouts,
            rates,
            access,
            tls: tls(typed.tls)?,
            warnings,
        })
    }

    /// The store, not opened yet.
    pub(crate) fn builder(&self) -> anyhow::Result<Builder> {
        if self.data.as_os_str().is_empty() {
            bail!("no folder for the store: give --data DIR, or set `data` in the configuration");
        }
        let Store { order_shards, stock_shards, in_flight_max, idempotency_retention_ms } =
            self.store;
        let mut builder = Tidegate::builder(&self.data)
            .in_flight_max(in_flight_max)
            .idempotency_retention_ms(idempotency_retention_ms);
        if let Some(shards) = order_shards {
            builder = builder.order_shards(shards);
        }
        if let Some(shards) = stock_shards {
            builder = builder.stock_shards(shards);
        }
        Ok(builder)
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
    Ok(Log { json, filter: typed.level, requests: typed.requests })
}

fn store(typed: &typed::Store) -> anyhow::Result<Store> {
    const HOUR_MS: u64 = 60 * 60 * 1_000;
    const HOURS_MIN: u64 = bounds::IDEMPOTENCY_RETENTION_MS_MIN / HOUR_MS;
    let hours = typed.idempotency_retention_hours;
    let hours = range("store.idempotency_retention_hours", hours, HOURS_MIN, 100 * 365 * 24)?;
    let in_flight_max = positive("store.in_flight_max", typed.in_flight_max as u64)? as usize;
    let shards = |shards: u16| (shards > 0).then_some(shards);
    Ok(Store {
        order_shards: shards(typed.order_shards),
        stock_shards: shards(typed.stock_shards),
        in_flight_max,
        idempotency_retention_ms: hours * HOUR_MS,
    })
}

fn limits(typed: &typed::Limits) -> anyhow::Result<Limits> {
    /// What the HTTP parser takes at most.
    const HEAD_BYTES_MAX: u64 = 65_536;
    let lines_max = bounds::LINES_MAX as u64;
    let number = |name: &str, given: usize, min, max| {
        range(&format!("limits.{name}"), given as u64, min, max).map(|it| it as usize)
    };
    Ok(Limits {
        body_bytes_max: number("body_bytes_max", typed.body_bytes_max, 1_024, 1 << 28)?,
        header_bytes_max: number("header_bytes_max", typed.header_bytes_max, 512, HEAD_BYTES_MAX)?,
        order_lines_max: number("order_lines_max", typed.order_lines_max, 1, lines_max)?,
        batch_orders_max: number("batch_orders_max", typed.batch_orders_max, 1, 1_000)?,
        connections_max: number("connections_max", typed.connections_max, 1, 10_000_000)?,
    })
}

fn rate(name: &str, per_second: u32, burst: u32) -> anyhow::Result<Option<Rate>> {
    if per_second == 0 {
        return Ok(None);
    }
    positive(&format!("rates.{name}_burst"), burst.into())?;
    Ok(Some(Rate { per_second, burst }))
}

fn tls(typed: typed::Tls) -> anyhow::Result<Option<Tls>> {
    let typed::Tls { certificate_file, key_file } = typed;
    match (certificate_file.as_os_str().is_empty(), key_file.as_os_str().is_empty()) {
        (true, true) => Ok(None),
        (false, false) => Ok(Some(Tls { certificate_file, key_file })),
        _ => bail!("tls: give both certificate_file and key_file, or none"),
    }
}

fn positive(name: &str, given: u64) -> anyhow::Result<u64> {
    range(name, given, 1, u64::MAX)
}

fn range(name: &str, given: u64, min: u64, max: u64) -> anyhow::Result<u64> {
    if (min..=max).contains(&given) {
        return Ok(given);
    }
    let most = if max == u64::MAX { String::new() } else { format!(" and at most {max}") };
    bail!("{name}: must be at least {min}{most}; got {given}")
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
            ("[limits]\nbody_bytes_max = 1", vec!["limits.body_bytes_max", "at least 1024"]),
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
            ("[store]\nidempotency_retention_hours = 1", vec!["retention_hours", "24"]),
        ] {
            let error = refused(text, &[]);
            for part in parts {
                assert!(error.contains(part), "{part:?} is missing in {error:?} for {text:?}");
            }
        }
    }

    #[test]
    fn names_in_the_environment_are_checked_where_they_are_surely_meant() {
        let error = refused("", &[("TIDEGATE_LIMITS__BODY_BYTE_MAX", "1")]);
        assert!(error.contains("TIDEGATE_LIMITS__BODY_BYTES_MAX"), "{error}");
        // Kubernetes sets such for a service of this name.
        let config = load("", &[("TIDEGATE_SERVICE_HOST", "10.0.0.1")]).unwrap();
        assert!(config.warnings[0].contains("TIDEGATE_SERVICE_HOST"), "{:?}", config.warnings);
        assert!(load("", &[("OTHER_LIMITS__X", "1")]).unwrap().warnings.is_empty());
    }
}
