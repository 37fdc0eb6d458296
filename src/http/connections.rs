//! How long a connection may hold its place with no request on it, and how long an answer may wait
//! for its reader. The parser's own timers end an idle connection and cover the head of its first
//! request, but not a later head that never ends. It knows nothing of requests but that they are
//! there.

use std::{
    any::Any,
    cell::Cell,
    io,
    net::Shutdown,
    os::fd::AsFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::{
    body::{BodySize, MessageBody},
    dev::Extensions,
    rt::{self, net::TcpStream, task::JoinHandle},
    web::Bytes,
};
use socket2::{SockRef, TcpKeepalive};

/// How often a peer that may have vanished is asked again.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// After how long at the latest it is asked the first time; the system takes no more than 9 hours.
const PROBE_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// Whether anything is on a connection, and since when nothing is.
struct Uses {
    count: Cell<usize>,
    free_since: Cell<Instant>,
}

/// A connection under watch, until this is dropped; it lies with what belongs to the connection.
pub(super) struct Watched {
    uses: Rc<Uses>,
    watch: JoinHandle<()>,
}

/// A request that has no answer yet, or an answer that is not handed over whole.
pub(super) struct InUse(Rc<Uses>);

/// Watches a new connection: after `free_max` with no request on it nothing more is read from it,
/// and so it ends. So it does when its peer has vanished, or reads nothing of an answer, for as
/// long.
pub(super) fn watch(stream: &dyn Any, data: &mut Extensions, free_max: Duration) {
    let tls = || stream.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0);
    let Some(stream) = stream.downcast_ref::<TcpStream>().or_else(tls) else { return };
    match Watched::begin(stream, free_max) {
        Ok(watched) => drop(data.insert(watched)),
        Err(error) => tracing::debug!(%error, "a connection is not watched"),
    }
}

impl Watched {
    fn begin(stream: &TcpStream, free_max: Duration) -> io::Result<Self> {
        let socket = SockRef::from(stream);
        let probes = TcpKeepalive::new().with_time(free_max.min(PROBE_AFTER_MAX));
        socket.set_tcp_keepalive(&probes.with_interval(PROBE_EVERY))?;
        socket.set_tcp_user_timeout(Some(free_max))?;
        // The connection itself belongs to the parser; this is a second handle of it.
        let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
        let uses = Rc::new(Uses { count: Cell::new(0), free_since: Cell::new(Instant::now()) });
        let watched = Rc::clone(&uses);
        let watch = rt::spawn(async move {
            watched.free_for(free_max).await;
            // What is written still leaves. If the connection has ended meanwhile, so much better.
            let _ = socket.shutdown(Shutdown::Read);
        });
        Ok(Self { uses, watch })
    }

    /// There is a request on it, until what this gives is dropped.
    pub(super) fn in_use(&self) -> InUse {
        self.uses.count.update(|count| count + 1);
        InUse(Rc::clone(&self.uses))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Uses {
    /// Waits until nothing was on it for `free_max` at a stretch.
    async fn free_for(&self, free_max: Duration) {
        loop {
            let free = if self.count.get() == 0 {
                self.free_since.get().elapsed()
            } else {
                Duration::ZERO
            };
            let Some(left) = free_max.checked_sub(free).filter(|left| !left.is_zero()) else {
                return;
            };
            rt::time::sleep(left).await;
        }
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.count.update(|count| count - 1);
        self.0.free_since.set(Instant::now());
    }
}

/// The body of an answer, which uses its connection until it is handed over.
pub(super) struct Handed<B> {
    body: B,
    _in_use: Option<InUse>,
}

impl<B> Handed<B> {
    pub(super) fn new(body: B, in_use: Option<InUse>) -> Self {
        Self { body, _in_use: in_use }
    }
}

impl<B: MessageBody + Unpin> MessageBody for Handed<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, B::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
