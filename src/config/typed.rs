//! A configuration as it was typed: names and types are known, whether values make sense is not.
//! The names are those of `defaults.toml`, which is also its documentation.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use toml::{Table, Value};

use super::Flags;

/// Every setting with its default.
pub(crate) const DEFAULTS: &str = include_str!("defaults.toml");

/// Begins every variable of the environment that is ours.
const PREFIX: &str = "TIDEGATE_";

/// Parts a section from a name in a variable.
const SECTION: &str = "__";

/// A setting that is a list of tables.
struct Tables {
    setting: &'static str,
    names: &'static [&'static str],
    /// Those that can't be left out.
    needed: &'static [&'static str],
}

const TABLES: [Tables; 2] = [
    Tables {
        setting: "access.keys",
        names: &["name", "role", "sha256", "expires_at", "allow"],
        needed: &["name", "role", "sha256"],
    },
    Tables {
        setting: "webhooks.endpoints",
        names: &[
            "name",
            "url",
            "secret",
            "secret_env",
            "topic",
            "kinds",
            "timeout_ms",
            "workers",
            "attempts_max",
            "backoff_ms",
            "allow_private",
        ],
        needed: &["name", "url"],
    },
];

/// The variables that clients take their API key and the server's URL from, as
/// `tidegate topics` does.
const OF_CLIENTS: [&str; 2] = ["KEY", "URL"];

/// Words in variables that orchestrators set for a service of our name: `TIDEGATE_SERVICE_HOST`,
/// `TIDEGATE_HTTP_PORT_8080_TCP`. None of the settings has one.
const OF_ORCHESTRATORS: [&str; 2] = ["PORT", "SERVICE"];

#[derive(Deserialize)]
pub(super) struct Typed {
    pub(super) data: PathBuf,
    pub(super) listen: String,
    pub(super) log: Log,
    pub(super) store: Store,
    pub(super) http: Http,
    pub(super) limits: Limits,
    pub(super) intake: Intake,
    pub(super) events: Events,
    pub(super) timeouts: Timeouts,
    pub(super) rates: Rates,
    pub(super) access: Access,
    pub(super) tls: Tls,
    pub(super) postgres: Postgres,
    pub(super) webhooks: Webhooks,
    pub(super) views: Views,
}

#[derive(Deserialize)]
pub(super) struct Log {
    pub(super) format: String,
    pub(super) level: String,
    pub(super) requests: bool,
}

#[derive(Deserialize)]
pub(super) struct Store {
    pub(super) order_shards: i64,
    pub(super) stock_shards: i64,
    pub(super) in_flight_max: i64,
    pub(super) idempotency_retention_hours: i64,
}

#[derive(Deserialize)]
pub(super) struct Http {
    pub(super) workers: i64,
}

#[derive(Deserialize)]
pub(super) struct Limits {
    pub(super) body_bytes_max: i64,
    pub(super) header_bytes_max: i64,
    pub(super) order_lines_max: i64,
    pub(super) batch_orders_max: i64,
    pub(super) connections_max: i64,
}

#[derive(Deserialize)]
pub(super) struct Intake {
    pub(super) orders_per_second: i64,
    pub(super) queued_max: i64,
    pub(super) deadline_ms: i64,
}

#[derive(Deserialize)]
pub(super) struct Events {
    pub(super) streams_max: i64,
    pub(super) heartbeat_seconds: i64,
    pub(super) retained_bytes: i64,
}

#[derive(Deserialize)]
pub(super) struct Timeouts {
    pub(super) head_read_ms_max: i64,
    pub(super) body_read_ms_max: i64,
    pub(super) idle_seconds_max: i64,
    pub(super) drain_seconds_max: i64,
}

#[derive(Deserialize)]
pub(super) struct Rates {
    pub(super) per_address_per_second: i64,
    pub(super) per_address_burst: i64,
    pub(super) per_key_per_second: i64,
    pub(super) per_key_burst: i64,
}

#[derive(Deserialize)]
pub(super) struct Access {
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    pub(super) deny_keys: Vec<String>,
    pub(super) keys: Vec<Key>,
}

#[derive(Deserialize)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) role: String,
    pub(super) sha256: String,
    pub(super) expires_at: Option<String>,
    #[serde(default)]
    pub(super) allow: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Tls {
    pub(super) certificate_file: PathBuf,
    pub(super) key_file: PathBuf,
}

#[derive(Deserialize)]
pub(super) struct Postgres {
    pub(super) url: String,
    pub(super) batch_events_max: i64,
    pub(super) batch_ms_max: i64,
}

#[derive(Deserialize)]
pub(super) struct Webhooks {
    pub(super) endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
pub(super) struct Endpoint {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) secret: Option<String>,
    pub(super) secret_env: Option<String>,
    pub(super) topic: Option<String>,
    #[serde(default)]
    pub(super) kinds: Vec<String>,
    pub(super) timeout_ms: Option<i64>,
    pub(super) workers: Option<i64>,
    pub(super) attempts_max: Option<i64>,
    pub(super) backoff_ms: Option<i64>,
    #[serde(default)]
    pub(super) allow_private: bool,
}

#[derive(Deserialize)]
pub(super) struct Views {
    pub(super) sales: bool,
}

/// Lays the stages over each other, checks every name, and reads the types.
pub(super) fn read(
    file: Option<(&str, &str)>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: &Flags,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Typed> {
    let mut settings: Table = DEFAULTS.parse().context("the defaults")?;
    let names = settings.clone();
    if let Some((name, text)) = file {
        let typed: Table = text.parse().map_err(|error| malformed(name, text, &error))?;
        lay(&mut settings, typed, &names, "").with_context(|| name.to_owned())?;
    }
    for (variable, value) in environment {
        if let Some(name) = variable.to_str().and_then(|name| name.strip_prefix(PREFIX)) {
            let value = value.to_str().with_context(|| format!("{PREFIX}{name}: is not UTF-8"))?;
            set(&mut settings, name, value, warnings)?;
        }
    }
    if let Some(data) = &flags.data {
        settings.insert("data".to_owned(), Value::String(data.display().to_string()));
    }
    if let Some(listen) = &flags.listen {
        settings.insert("listen".to_owned(), Value::String(listen.clone()));
    }
    settings.try_into().map_err(|error: toml::de::Error| {
        let text = error.to_string();
        anyhow!("a setting has the wrong type: {}", text.trim().replace('\n', " "))
    })
}

/// Where a file is no TOML, and why; not what stands there, which may be a secret.
fn malformed(name: &str, text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let (line, why) = (before.matches('\n').count() + 1, error.message());
    anyhow!("{name}, line {line}: {why}")
}

/// Puts `typed` over `settings`; every name must be among `names`.
fn lay(settings: &mut Table, typed: Table, names: &Table, section: &str) -> anyhow::Result<()> {
    for (name, value) in typed {
        let full = format!("{section}{name}");
        let Some(known) = names.get(&name) else {
            bail!("unknown setting `{full}`{}", nearest(&name, names.keys().map(String::as_str)));
        };
        check_tables(&full, &value)?;
        match (settings.get_mut(&name), value, known) {
            (Some(Value::Table(inner)), Value::Table(typed), Value::Table(names)) => {
                lay(inner, typed, names, &format!("{full}."))?;
            }
            (_, value, known) if value.same_type(known) => {
                settings.insert(name, value);
            }
            (_, value, known) => {
                // The value itself may be an API key in the wrong place.
                bail!("{full}: must be {}, not {}", kind(known), kind(&value));
            }
        }
    }
    Ok(())
}

/// Checks the names in each table of a setting that is a list of them.
fn check_tables(setting: &str, value: &Value) -> anyhow::Result<()> {
    let Some(known) = TABLES.iter().find(|known| known.setting == setting) else { return Ok(()) };
    for table in value.as_array().into_iter().flatten() {
        let Some(table) = table.as_table() else { bail!("{setting}: each must be a table") };
        if let Some(name) = table.keys().find(|name| !known.names.contains(&name.as_str())) {
            let names = known.names.iter().copied();
            bail!("unknown setting `{setting}.{name}`{}", nearest(name, names));
        }
        if let Some(name) = known.needed.iter().find(|name| !table.contains_key(**name)) {
            bail!("{setting}: one has no `{name}`");
        }
    }
    Ok(())
}

/// What kind of value it is, in words.
fn kind(value: &Value) -> String {
    let name = value.type_str();
    let article = if name.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {name}")
}

/// Sets what the variable with this name, after the prefix, says.
fn set(
    settings: &mut Table,
    name: &str,
    value: &str,
    warnings: &mut Vec<String>,
) -> anyhow::Result<()> {
    let lower = name.to_lowercase();
    let (section, key) = match lower.split_once(SECTION) {
        Some((section, key)) => (Some(section), key),
        None => (None, lower.as_str()),
    };
    let table = match section {
        None => Some(&mut *settings),
        Some(section) => settings.get_mut(section).and_then(Value::as_table_mut),
    };
    let known = table.and_then(|table| table.get_mut(key)).filter(|known| !known.is_table());
    let Some(known) = known else {
        let variables = variables(settings);
        let hint = nearest(&format!("{PREFIX}{name}"), variables.iter().map(String::as_str));
        if OF_CLIENTS.contains(&name) {
            return Ok(());
        }
        if section.is_some() || !name.split('_').any(|word| OF_ORCHESTRATORS.contains(&word)) {
            bail!("unknown variable `{PREFIX}{name}`{hint}");
        }
        warnings
            .push(format!("the variable `{PREFIX}{name}` is not a setting; it changes nothing"));
        return Ok(());
    };
    if known.is_str() {
        *known = Value::String(value.to_owned());
        return Ok(());
    }
    let parsed = format!("it = {value}").parse::<Table>().ok();
    let parsed = parsed.and_then(|mut table| table.remove("it"));
    let parsed = parsed.filter(|parsed| parsed.same_type(known));
    *known = parsed.with_context(|| format!("{PREFIX}{name}: must be {}", kind(known)))?;
    check_tables(&lower.replace(SECTION, "."), known).with_context(|| format!("{PREFIX}{name}"))
}

/// Every variable there is.
fn variables(settings: &Table) -> Vec<String> {
    let mut names = Vec::new();
    for (name, value) in settings {
        let name = format!("{PREFIX}{}", name.to_uppercase());
        match value {
            Value::Table(inner) => {
                let inner =
                    inner.keys().map(|key| format!("{name}{SECTION}{}", key.to_uppercase()));
                names.extend(inner);
            }
            _ => names.push(name),
        }
    }
    names
}

/// The known name that is most like `name`, in words.
fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let near = known.into_iter().min_by_key(|known| strsim::damerau_levenshtein(name, known));
    near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}
