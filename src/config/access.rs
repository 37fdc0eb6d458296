//! Who may use the server, as configured and checked: networks, API keys with their roles and
//! hashes. It holds no key, only hashes, and decides about no request.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use anyhow::{Context, bail};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::typed;

/// What a key may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Look.
    Read,
    /// Place, pay, change orders and holds.
    Sell,
    /// Define SKUs and move stock.
    Admin,
}

impl Role {
    /// Roles by name.
    const NAMES: [(&str, Self); 3] =
        [("read", Self::Read), ("sell", Self::Sell), ("admin", Self::Admin)];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Sell => "sell",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let found = Self::NAMES.iter().find(|(name, _)| *name == text);
        found
            .map(|(_, role)| *role)
            .with_context(|| format!("must be \"read\", \"sell\" or \"admin\"; got {text:?}"))
    }
}

/// A key that may be used.
#[derive(Debug)]
pub(crate) struct ApiKey {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    pub(crate) sha256: [u8; 32],
    pub(crate) expires_at: Option<OffsetDateTime>,
    /// Where it may be used from; empty: everywhere.
    pub(crate) allow: Vec<IpNet>,
    pub(crate) denied: bool,
}

/// Who may use the server.
#[derive(Debug)]
pub(crate) struct AccessRules {
    pub(crate) allow: Vec<IpNet>,
    pub(crate) deny: Vec<IpNet>,
    pub(crate) keys: Vec<ApiKey>,
}

impl AccessRules {
    pub(super) fn check(typed: typed::Access) -> anyhow::Result<Self> {
        let denied: BTreeSet<&str> = typed.deny_keys.iter().map(String::as_str).collect();
        let mut keys: Vec<ApiKey> = Vec::new();
        for key in &typed.keys {
            let denied = denied.contains(key.name.as_str());
            let key = ApiKey::check(key, denied)
                .with_context(|| format!("access.keys, {:?}", key.name))?;
            if keys.iter().any(|known| known.name == key.name || known.sha256 == key.sha256) {
                bail!("access.keys: {:?} has the name or the key of another", key.name);
            }
            keys.push(key);
        }
        if let Some(name) = denied.iter().find(|name| keys.iter().all(|key| &*key.name != **name)) {
            bail!("access.deny_keys: there is no key {name:?} under access.keys");
        }
        let (allow, deny) = (networks(&typed.allow), networks(&typed.deny));
        Ok(Self { allow: allow.context("access.allow")?, deny: deny.context("access.deny")?, keys })
    }
}

impl ApiKey {
    fn check(typed: &typed::Key, denied: bool) -> anyhow::Result<Self> {
        check_name(&typed.name).context("name")?;
        let expires_at = typed.expires_at.as_ref().map(|text| {
            OffsetDateTime::parse(text, &Rfc3339).with_context(|| {
                format!("expires_at: {text:?} is no time such as 2030-01-01T00:00:00Z")
            })
        });
        Ok(Self {
            name: Arc::from(typed.name.as_str()),
            role: typed.role.parse().context("role")?,
            sha256: unhex(&typed.sha256).context("sha256: must be 64 hexadecimal digits")?,
            expires_at: expires_at.transpose()?,
            allow: networks(&typed.allow).context("allow")?,
            denied,
        })
    }
}

/// A name goes into logs, and keeps idempotency keys apart.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let visible = name.bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(
        visible && (1..=64).contains(&name.len()),
        "must be 1 to 64 visible ASCII characters"
    );
    Ok(())
}

/// The hash that stands for a key. Keys are 256 random bits, so nothing slower is needed.
pub(crate) fn sha256(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

fn networks(typed: &[String]) -> anyhow::Result<Vec<IpNet>> {
    let network = |text: &String| {
        let one = text.parse::<IpAddr>().map(IpNet::from);
        one.or_else(|_| text.parse::<IpNet>())
            .with_context(|| format!("{text:?} is no address and no network such as 10.0.0.0/8"))
    };
    typed.iter().map(network).collect()
}
