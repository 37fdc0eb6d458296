//! Starts and ends the server: listens, serves, and on the way out answers what is in flight before
//! the store is closed. It opens no store and knows no signal.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{App, HttpServer, dev::ServerHandle, middleware::from_fn, rt::System, web::Data};
use anyhow::Context;
use tidegate::{Tidegate, postgres, webhooks};

use super::{
    access::Access,
    app, connections,
    guard::{Worker, guard},
    service::Service,
    tls,
};
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
    drain: Duration,
    tls: bool,
}

impl Server {
    /// Listens. Until [`Server::open`] requests that need the store are answered with 503.
    /// With `parse_only_route` there is one route more, for a bench.
    pub(crate) fn start(config: Config, parse_only_route: bool) -> anyhow::Result<Self> {
        let Config { listen, limits, events, timeouts, access, rates, log, tls, workers, .. } =
            config;
        let access = Access::new(access, &rates);
        let service = Service::new(limits.clone(), &events, timeouts.clone(), access, log.requests);
        let service = Data::new(service);
        let workers = match workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        // Each worker counts by itself; together they must not take more.
        let workers = workers.min(limits.connections_max);
        let (shared, free_max) = (service.clone(), timeouts.idle + timeouts.head_read);
        let server = HttpServer::new(move || {
            let worker = Worker::of(&shared);
            let pass = move |request, next| guard(Rc::clone(&worker), request, next);
            let app = App::new().app_data(shared.clone());
            let app = if parse_only_route { app.configure(app::configure_parse_only) } else { app };
            app.configure(app::configure).wrap(from_fn(pass))
        })
        .workers(workers)
        .backlog(BACKLOG)
        .max_connections(limits.connections_max / workers)
        .on_connect(move |stream, data| connections::watch(stream, data, free_max))
        .client_request_timeout(timeouts.head_read)
        .keep_alive(timeouts.idle)
        .shutdown_timeout(timeouts.drain.as_secs())
        .disable_signals();
        let (server, tls) = match &tls {
            Some(files) => (server.bind_rustls_0_23(listen, tls::load(files)?), true),
            None => (server.bind(listen), false),
        };
        let server = server.with_context(|| {
            format!("can't listen on {listen}; choose another address with --listen")
        })?;
        let address = server.addrs().first().copied().context("it listens nowhere")?;
        let server = server.run();
        let handle = server.handle();
        // In a system of its own, whose workers are woken once for many answers that come from the
        // store at a time. Workers without one pay a system call for each answer.
        let run = move || System::new().block_on(server);
        std::thread::Builder::new().name("tidegate-http".to_owned()).spawn(run)?;
        Ok(Self { service, address, handle, drain: timeouts.drain, tls })
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// From now on requests get at the store. Needs a tokio runtime.
    pub(crate) fn open(&self, gate: Tidegate) {
        self.service.open(gate.clone());
        let (service, draining) = (self.service.clone(), self.service.draining());
        tokio::spawn(async move { service.groups.tend(gate, draining).await });
    }

    /// From now on the figures of a worker are among the server's.
    pub(crate) fn follow(&self, figures: postgres::Figures) {
        self.service.follow(figures);
    }

    /// From now on the server can be asked what was posted.
    pub(crate) fn post(&self, sender: Arc<webhooks::Sender>) {
        self.service.post(sender);
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
        // Idle connections would be waited for in vain. They end with the process.
        if tokio::time::timeout(GOODBYE, stopping).await.is_err() {
            tracing::debug!("ending with idle connections");
        }
        closed
    }
}
