//! A running server, for commands that ask it: one request after the other, over HTTP. It tries
//! nothing again: whoever typed the command sees what became of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{
    Agent,
    http::{Request, Response, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest answer: that of a page of dead letters is some 7 MiB.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// What stands in a path as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where the server is.
#[derive(Args)]
pub(super) struct RemoteArguments {
    /// The server's URL. If it has API keys, put one into the environment as TIDEGATE_KEY.
    #[arg(
        long,
        value_name = "URL",
        env = "TIDEGATE_URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    url: String,
}

/// See the module.
pub(super) struct Remote {
    agent: Agent,
    base: String,
    key: Option<String>,
}

impl Remote {
    pub(super) fn new(arguments: &RemoteArguments) -> anyhow::Result<Self> {
        Self::at(&arguments.url)
    }

    pub(super) fn at(url: &str) -> anyhow::Result<Self> {
        let base = url.trim_end_matches('/').to_owned();
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0);
        let config = config.timeout_global(Some(PATIENCE));
        let config = match base.starts_with("https://") {
            true => config.tls_config(tls()?).build(),
            false => config.build(),
        };
        let key = std::env::var("TIDEGATE_KEY").ok().filter(|key| !key.is_empty());
        Ok(Self { agent: config.into(), base, key })
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask("GET", path, None)
    }

    /// With a JSON body, if there is one. An answer without one is null.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<T> {
        self.ask_with(method, path, body, &[])
    }

    /// With more headers.
    pub(super) fn ask_with<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<String>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<T> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent.run(request.body(body)?)
            }
            None => self.agent.run(request.body(())?),
        };
        read(answer.with_context(|| format!("can't ask {}; does a server run there?", self.base))?)
    }
}

fn read<T: DeserializeOwned>(mut answer: Response<ureq::Body>) -> anyhow::Result<T> {
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
    let text = if text.is_empty() { "null" } else { &text };
    if status.is_success()
        && let Ok(body) = serde_json::from_str(text)
    {
        return Ok(body);
    }
    match serde_json::from_str::<Value>(text) {
        Ok(problem) if problem["detail"].is_string() => {
            let slug = problem["type"].as_str().unwrap_or_default();
            let slug = slug.rsplit('/').next().unwrap_or_default();
            bail!("{} ({slug})", problem["detail"].as_str().unwrap_or_default())
        }
        _ => bail!("the answer is {status} and nothing that a Tidegate server says"),
    }
}

/// A name as it stands in a path.
pub(super) fn segment(name: &str) -> String {
    utf8_percent_encode(name, PLAIN).to_string()
}

/// What this machine trusts, or SSL_CERT_FILE if that is set.
fn tls() -> anyhow::Result<TlsConfig> {
    let known = rustls_native_certs::load_native_certs();
    if known.certs.is_empty() {
        bail!("no certificates are trusted here; SSL_CERT_FILE may name some");
    }
    let roots: Vec<_> =
        known.certs.iter().map(|it| Certificate::from_der(it.as_ref()).to_owned()).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}
