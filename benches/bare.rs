//! The least that a server over HTTP can be: it finds the end of each request and sends back the
//! same bytes, on a thread for each core. What it gets from `wrk` is what any server could get
//! here. It understands no request.

use std::{io, net::SocketAddr, str::from_utf8, sync::Arc, thread};

use anyhow::{Result, bail};
use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
};

/// A running server; it ends when this is dropped.
pub(crate) struct Bare {
    pub(crate) address: SocketAddr,
    _end: watch::Sender<()>,
}

impl Bare {
    /// Starts one that answers everything with `answer`.
    pub(crate) fn start(answer: Vec<u8>) -> Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let (address, answer) = (listener.local_addr()?, Arc::<[u8]>::from(answer));
        let (end, ended) = watch::channel(());
        for _ in 0..thread::available_parallelism()?.get() {
            let (listener, answer, mut ended) =
                (listener.try_clone()?, Arc::clone(&answer), ended.clone());
            let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
            thread::spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        _ = serve(listener, answer) => {}
                        _ = ended.changed() => {}
                    }
                });
            });
        }
        Ok(Self { address, _end: end })
    }
}

async fn serve(listener: std::net::TcpListener, answer: Arc<[u8]>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(converse(stream, Arc::clone(&answer)));
    }
}

async fn converse(mut stream: TcpStream, answer: Arc<[u8]>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut read = BytesMut::with_capacity(4_096);
    while stream.read_buf(&mut read).await? > 0 {
        while let Some(end) = end_of_message(&read) {
            read.advance(end);
            stream.write_all(&answer).await?;
        }
    }
    Ok(())
}

/// What the server at `address` answers to `request`, byte by byte.
pub(crate) async fn answer_of(address: &str, request: &str) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut read = Vec::new();
    while end_of_message(&read).is_none() {
        if stream.read_buf(&mut read).await? == 0 {
            bail!("{address} broke off after {:?}", from_utf8(&read));
        }
    }
    Ok(read)
}

/// Where the first request or answer ends, if all of it is there.
fn end_of_message(read: &[u8]) -> Option<usize> {
    let text = from_utf8(read).ok()?;
    let head = text.find("\r\n\r\n")? + 4;
    let fields = text[..head].lines().filter_map(|line| line.split_once(": "));
    let length = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = length.filter_map(|(_, length)| length.parse::<usize>().ok()).sum();
    (head + body <= read.len()).then_some(head + body)
}
