//! The endpoints that messages are posted to, as they are configured. It sends nothing.

use std::time::Duration;

use anyhow::{Context, bail};
use tidegate::{
    Retry,
    webhooks::{Endpoint, Secret},
};

use super::{number, typed};

/// Longest wait between two attempts; shorter than that of the first one it can't be.
const BACKOFF_MS_MAX: u64 = 12 * 60 * 60 * 1_000;

pub(super) fn check(typed: &typed::Webhooks) -> anyhow::Result<Vec<Endpoint>> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for typed in &typed.endpoints {
        let endpoint =
            endpoint(typed).with_context(|| format!("webhooks.endpoints, {:?}", typed.name))?;
        if endpoints.iter().any(|known| known.name() == endpoint.name()) {
            bail!("webhooks.endpoints: {:?} has the name of another", typed.name);
        }
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

fn endpoint(typed: &typed::Endpoint) -> anyhow::Result<Endpoint> {
    let secret = match (&typed.secret, &typed.secret_env) {
        (Some(secret), None) => secret.clone(),
        (None, Some(name)) => {
            let value = std::env::var(name).ok();
            value.with_context(|| format!("secret_env: there is no text in the variable {name}"))?
        }
        _ => bail!("give `secret` or `secret_env`, and not both"),
    };
    let mut endpoint = Endpoint::new(&typed.name, &typed.url, Secret::parse(&secret)?)?;
    let attempts_max = number("attempts_max", typed.attempts_max.unwrap_or(15), 1, 1_000)?;
    let backoff_ms = number("backoff_ms", typed.backoff_ms.unwrap_or(5_000), 0, BACKOFF_MS_MAX)?;
    endpoint = endpoint
        .retry(Retry { attempts_max, backoff_ms, backoff_ms_max: BACKOFF_MS_MAX })
        .only(&typed.kinds);
    if let Some(topic) = &typed.topic {
        endpoint = endpoint.topic(topic);
    }
    if let Some(ms) = typed.timeout_ms {
        endpoint = endpoint.timeout(Duration::from_millis(number("timeout_ms", ms, 1, 3_600_000)?));
    }
    if let Some(workers) = typed.workers {
        endpoint = endpoint.workers(number("workers", workers, 1, 64)?);
    }
    if typed.allow_private {
        endpoint = endpoint.allow_private();
    }
    endpoint.check()?;
    Ok(endpoint)
}
