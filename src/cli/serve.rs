//! `tidegate serve`: reads the configuration, serves while the store opens, and ends in order when
//! asked to. What is served is in `http`.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Context;
use tidegate::{Tidegate, postgres::Worker, webhooks::Sender};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use super::{ServeArguments, Verdict, open_files, telemetry};
use crate::{
    config::{Config, Flags},
    http::Server,
};

/// How long ending waits until PostgreSQL has what was closed with; the rest follows at the next
/// start.
const FOLLOWER_WAIT: Duration = Duration::from_secs(5);

/// How long ending waits for endpoints to answer.
const SENDER_WAIT: Duration = Duration::from_secs(5);

/// Runs the command.
pub(super) async fn run(
    arguments: ServeArguments,
    parse_only_route: bool,
) -> anyhow::Result<Verdict> {
    let ServeArguments { config, data, listen } = arguments;
    let mut config = Config::load(&Flags { config, data, listen }).context("configuration")?;
    telemetry::start(&config.log.filter, config.log.json);
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    open_files::make_room(&mut config.limits.connections_max, config.events.streams_max);
    let mut signals = Signals::listen()?;
    let (builder, keys) = (config.builder(), config.access.keys.len());
    let endpoints = config.webhooks.clone();
    let follower = config.postgres.clone().map(Worker::new);
    let data = config.data.display().to_string();
    let server = Server::start(config, parse_only_route)?;
    let url = server.url();
    if keys == 0 {
        tracing::warn!(
            "no API key is configured: serving this machine only, and everybody on it; to be \
             reached from elsewhere, see `tidegate config new-key`"
        );
    }
    let gate = tokio::select! {
        opened = builder.open() => match opened {
            Ok(gate) => gate,
            Err(error) => {
                server.end(async {}).await;
                return Err(error.into());
            }
        },
        () = signals.next() => {
            server.end(async {}).await;
            return Ok(Verdict::Good);
        }
    };
    if let Some(worker) = &follower {
        server.follow(worker.figures());
    }
    // Before anybody is served: it may be that it can't be done.
    let sender = match Sender::start(&gate, endpoints).await {
        Ok(sender) => Arc::new(sender),
        Err(error) => {
            let _ = server.end(gate.close()).await;
            return Err(error).context("webhooks");
        }
    };
    server.post(Arc::clone(&sender));
    server.open(gate.clone());
    let follower = follower.map(|worker| tokio::spawn(follow(worker, gate.clone())));
    // For whoever started it: from here on requests are answered. Nobody need read it.
    let told = format!("listening on {url}\n  store in {data}, documentation at {url}/docs\n");
    let _ = std::io::stdout().write_all(told.as_bytes());
    tracing::info!(url, data, keys, "serving");
    signals.next().await;
    tracing::info!("ending: answering what is in flight, then closing the store");
    tokio::select! {
        closed = server.end(close(gate, &sender)) => closed?,
        () = signals.next() => at_once(),
    }
    if let Some(follower) = follower {
        tokio::select! {
            () = settle(follower) => {}
            () = signals.next() => at_once(),
        }
    }
    tracing::info!("closed");
    Ok(Verdict::Good)
}

/// Lets PostgreSQL follow. Selling goes on without it.
async fn follow(worker: Worker, gate: Tidegate) {
    if let Err(error) = worker.run(gate).await {
        tracing::error!(%error, "PostgreSQL follows no more; mend the cause and start again");
    }
}

async fn settle(mut follower: JoinHandle<()>) {
    if tokio::time::timeout(FOLLOWER_WAIT, &mut follower).await.is_err() {
        follower.abort();
        tracing::warn!(
            "ending before PostgreSQL has everything; the rest follows at the next start"
        );
    }
}

/// Ends as `kill -9` does, for whoever asks twice: nothing that was acknowledged is lost, and there
/// is nothing that waiting could add to that.
fn at_once() -> ! {
    tracing::warn!("asked to end again: ending at once; the next start recovers the store");
    std::process::exit(1)
}

async fn close(gate: Tidegate, sender: &Sender) -> anyhow::Result<()> {
    // What is still on its way then is posted again at the next start.
    if tokio::time::timeout(SENDER_WAIT, sender.stop()).await.is_err() {
        tracing::warn!("ending while webhooks are still posted to");
    }
    gate.close().await.context("the store did not close cleanly; the next start recovers it")
}

/// What asks the program to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        let (terminate, interrupt) = (SignalKind::terminate(), SignalKind::interrupt());
        Ok(Self { terminate: signal(terminate)?, interrupt: signal(interrupt)? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
