//! Starts and ends the server: listens, serves, and on the way out answers what is in flight before
//! the store is closed. It opens no store and knows no signal.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, web::Data};
use anyhow::Context;
use tidegate::Tidegate;
use tokio::task::JoinHandle;

use super::{access::Access, app, guard::guard, service::Service, tls};
use crate::config::Config;

/// How often ending looks at what is in flight.
const DRAIN_LOOK: Duration = Duration::from_millis(5);

/// How long ending waits for connections that have nothing in flight any more.
const GOODBYE: Duration = Duration::from_millis(500);

/// Connections that wait to be accepted.
const BACKLOG: u32 = 4_096;

/// A running server.
pub(crate) struct Server {
    service: Data<Service>,
    address: SocketAddr,
    handle: ServerHandle,
    running: JoinHandle<std::io::Result<()>>,
    drain: Duration,
    tls: bool,
}

impl Server {
    /// Listens. Until [`Server::open`] requests that need the store are answered with 503.
    pub(crate) fn start(config: Config) -> anyhow::Result<Self> {
        let Config { listen, limits, timeouts, access, rates, log, tls, workers, .. } = config;
        let access = Access::new(access, &rates);
        let service = Service::new(limits.clone(), timeouts.clone(), access, log.requests);
        let service = Data::new(service);
        let listener = TcpListener::bind(listen).with_context(|| {
            format!("can't listen on {listen}; choose another address with --listen")
        })?;
        let address = listener.local_addr()?;
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        // Each worker counts by itself; together they must not take more.
        let workers = workers.min(limits.connections_max);
        let shared = service.clone();
        let server = HttpServer::new(move || {
            let guarded = shared.clone();
            let pass = move |request, next| guard(guarded.clone(), request, next);
            App::new().app_data(shared.clone()).configure(app::configure).wrap(from_fn(pass))
        })
        .workers(workers)
        .backlog(BACKLOG)
        .max_connections(limits.connections_max / workers)
        .client_request_timeout(timeouts.head_read)
        .keep_alive(timeouts.idle)
        .shutdown_timeout(timeouts.drain.as_secs())
        .disable_signals();
        let (server, tls) = match &tls {
            Some(files) => (server.listen_rustls_0_23(listener, tls::load(files)?), true),
            None => (server.listen(listener), false),
        };
        let server = server.context("can't serve")?.run();
        let handle = server.handle();
        let running = tokio::spawn(server);
        Ok(Self { service, address, handle, running, drain: timeouts.drain, tls })
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// From now on requests get at the store.
    pub(crate) fn open(&self, gate: Tidegate) {
        self.service.open(gate);
    }

    /// Ends: accepts no more connections, waits for what is in flight, then runs `close`, while
    /// connections that are still there are told that the server ends.
    pub(crate) async fn end<T>(self, close: impl Future<Output = T>) -> T {
        self.service.drain();
        let stopping = tokio::spawn(self.handle.stop(true));
        let begun = Instant::now();
        while self.service.in_flight() > 0 && begun.elapsed() < self.drain {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        let left = self.service.in_flight();
        if left > 0 {
            tracing::warn!(left, "closing with requests in flight; their outcome is in the store");
        }
        let closed = close.await;
        // Idle connections would be waited for in vain.
        if tokio::time::timeout(GOODBYE, stopping).await.is_err() {
            self.running.abort();
        }
        closed
    }
}
