//! Who may do what, per request: networks, API keys in constant time, rates. It counts requests and
//! keeps no key; the rules are from the configuration.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use actix_web::{
    dev::RequestHead,
    http::{
        header::{self, HeaderMap},
        uri::Authority,
    },
};
use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DefaultKeyedStateStore,
};
use ipnet::IpNet;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use super::problem::{Problem, ProblemType};
use crate::config::{AccessRules, ApiKey, Rate, Rates, Role, sha256};

/// After so many requests what is known of idle addresses is forgotten.
const FORGET_EVERY: u32 = 65_536;

/// The longest key that is looked at.
const KEY_BYTES_MAX: usize = 512;

/// What proxies add to requests of others.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// Rates by name or by address.
type Limiter<K> = RateLimiter<K, DefaultKeyedStateStore<K>, DefaultClock>;

/// See the module.
pub(crate) struct Access {
    rules: AccessRules,
    per_address: Option<Limiter<IpAddr>>,
    per_key: Option<Limiter<Arc<str>>>,
    clock: DefaultClock,
    seen: AtomicU32,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The key's name; empty when no keys are configured.
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
    /// When the key ends, for what lasts longer than a request.
    pub(crate) expires_at: Option<OffsetDateTime>,
}

impl Identity {
    /// What is answered once the key has expired.
    pub(crate) fn expired(name: &str) -> Problem {
        Problem::new(ProblemType::KeyExpired, format!("the API key {name:?} has expired"))
    }
}

impl Access {
    pub(crate) fn new(rules: AccessRules, rates: &Rates) -> Self {
        Self {
            rules,
            per_address: rates.per_address.and_then(quota).map(RateLimiter::keyed),
            per_key: rates.per_key.and_then(quota).map(RateLimiter::keyed),
            clock: DefaultClock::default(),
            seen: AtomicU32::new(0),
        }
    }

    /// Whether the address may ask at all.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), Problem> {
        let within = |networks: &[IpNet]| networks.iter().any(|net| net.contains(&address));
        let AccessRules { allow, deny, .. } = &self.rules;
        if within(deny) || !(allow.is_empty() || within(allow)) {
            let detail = format!("requests from {address} are not served");
            return Err(Problem::new(ProblemType::AddressDenied, detail));
        }
        Ok(())
    }

    /// Counts a request of the address.
    pub(crate) fn count_address(&self, address: IpAddr) -> Result<(), Problem> {
        let Some(limiter) = &self.per_address else { return Ok(()) };
        if self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(FORGET_EVERY) {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        limiter.check_key(&address).map_err(|until| self.too_many(&until, "this address"))
    }

    /// Counts a request of the key.
    pub(crate) fn count_key(&self, identity: &Identity) -> Result<(), Problem> {
        let Some(limiter) = &self.per_key else { return Ok(()) };
        if self.rules.keys.is_empty() {
            return Ok(());
        }
        limiter.check_key(&identity.name).map_err(|until| self.too_many(&until, "this API key"))
    }

    fn too_many(
        &self,
        until: &governor::NotUntil<<DefaultClock as Clock>::Instant>,
        of: &str,
    ) -> Problem {
        let wait = until.wait_time_from(self.clock.now());
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail = format!("too many requests of {of}");
        Problem::new(ProblemType::RateLimited, detail).retry_after_s(seconds.max(1))
    }

    /// Who asks, by the key in the headers.
    pub(crate) fn identify(
        &self,
        head: &RequestHead,
        address: IpAddr,
    ) -> Result<Identity, Problem> {
        if self.rules.keys.is_empty() {
            check_local(head)?;
            return Ok(Identity { name: Arc::from(""), role: Role::Admin, expires_at: None });
        }
        let key = bearer(&head.headers)?;
        let known = self.find(key).ok_or_else(|| {
            Problem::new(ProblemType::Unauthorized, "the API key is not one of this server's")
        })?;
        if known.expires_at.is_some_and(|at| at <= OffsetDateTime::now_utc()) {
            return Err(Identity::expired(&known.name));
        }
        let elsewhere = || !known.allow.iter().any(|net| net.contains(&address));
        if known.denied || (!known.allow.is_empty() && elsewhere()) {
            let detail = format!("the API key {:?} may not be used, or not from here", known.name);
            return Err(Problem::new(ProblemType::KeyDenied, detail));
        }
        let (role, expires_at) = (known.role, known.expires_at);
        Ok(Identity { name: Arc::clone(&known.name), role, expires_at })
    }

    /// Compares with every key in full, so that the time it takes tells nothing.
    fn find(&self, key: &[u8]) -> Option<&ApiKey> {
        let hash = sha256(key);
        let mut found = None;
        for known in &self.rules.keys {
            if bool::from(known.sha256.ct_eq(&hash)) {
                found = Some(known);
            }
        }
        found
    }
}

/// Without keys everybody on this machine may do everything. That is not meant for whoever gets
/// there through a proxy, nor for pages of other sites in a browser, be it that they ask for
/// themselves or that their own name suddenly leads to this machine.
fn check_local(head: &RequestHead) -> Result<(), Problem> {
    let refused = |what: String| {
        let detail = format!("{what}; without API keys only this machine is served");
        Err(Problem::new(ProblemType::Unauthorized, detail))
    };
    if let Some(name) = FORWARDED.iter().find(|name| head.headers.contains_key(**name)) {
        return refused(format!("the request was forwarded: it has the header `{name}`"));
    }
    let text = |name| head.headers.get(name).map(|it| it.to_str().unwrap_or("?"));
    let host = head.uri.authority().map(Authority::as_str).or_else(|| text(header::HOST));
    if let Some(host) = host.filter(|host| !is_this_machine(host)) {
        return refused(format!("the request is for {host:?}"));
    }
    let authority = |origin: &str| origin.split_once("://").map(|(_, host)| host.to_owned());
    if let Some(origin) = text(header::ORIGIN)
        && authority(origin).as_deref() != host
    {
        return refused(format!("the request is of a page of {origin:?}"));
    }
    Ok(())
}

/// Whether a name with a port is one of this machine wherever it is looked up.
fn is_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn bearer(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let missing = || {
        let detail = "send `Authorization: Bearer` and an API key";
        Problem::new(ProblemType::Unauthorized, detail)
    };
    let value = headers.get(header::AUTHORIZATION).ok_or_else(missing)?.as_bytes();
    let (scheme, key) = value.split_at_checked(7).ok_or_else(missing)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") || key.len() > KEY_BYTES_MAX {
        return Err(missing());
    }
    Ok(key.trim_ascii())
}

fn quota(rate: Rate) -> Option<Quota> {
    let (per_second, burst) = (NonZeroU32::new(rate.per_second)?, NonZeroU32::new(rate.burst)?);
    Some(Quota::per_second(per_second).allow_burst(burst))
}
