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

use actix_web::http::header::{self, HeaderMap};
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
        headers: &HeaderMap,
        address: IpAddr,
    ) -> Result<Identity, Problem> {
        if self.rules.keys.is_empty() {
            return Ok(Identity { name: Arc::from(""), role: Role::Admin });
        }
        let key = bearer(headers)?;
        let known = self.find(key).ok_or_else(|| {
            Problem::new(ProblemType::Unauthorized, "the API key is not one of this server's")
        })?;
        if known.expires_at.is_some_and(|at| at <= OffsetDateTime::now_utc()) {
            let detail = format!("the API key {:?} has expired", known.name);
            return Err(Problem::new(ProblemType::KeyExpired, detail));
        }
        let elsewhere = || !known.allow.iter().any(|net| net.contains(&address));
        if known.denied || (!known.allow.is_empty() && elsewhere()) {
            let detail = format!("the API key {:?} may not be used, or not from here", known.name);
            return Err(Problem::new(ProblemType::KeyDenied, detail));
        }
        Ok(Identity { name: Arc::clone(&known.name), role: known.role })
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
