//! Events, or messages of a topic, on their way to one reader, as frames of server-sent events. A
//! frame is made when the connection has room for it and not before, so a slow reader costs a page
//! of them and holds nobody up. It parses no request; `routes/events` does.

use std::{convert::Infallible, fmt::Write, future::pending, time::Duration};

use actix_web::web::Bytes;
use futures_util::{
    FutureExt,
    stream::{self, Stream},
};
use tidegate::{Event, Feed, Letter, Pick};
use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    access::Identity,
    problem::{Problem, ProblemType},
    wire::leases::StreamedMessage,
};

/// What is there already is put together up to this size.
const CHUNK_BYTES: usize = 16 << 10;

/// What a stream tells.
pub(super) trait Told {
    /// Appends its frame.
    fn frame(&self, text: &mut String);
}

/// A reader.
pub(super) struct Subscription<P: Pick> {
    /// Opened already.
    pub(super) feed: Feed<P>,
    pub(super) heartbeat: Duration,
    /// Whether the server is about to end.
    pub(super) draining: watch::Receiver<bool>,
    pub(super) reader: Identity,
    /// One of the streams that may be open; given back at the end.
    pub(super) _seat: OwnedSemaphorePermit,
}

/// Whether a stream goes on.
enum Next {
    More,
    End,
}

impl<P: Pick<Item: Told>> Subscription<P> {
    /// All frames, the first of which says where the stream begins.
    pub(super) fn into_frames(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        let place = format!("id: {}\n\n", self.feed.cursor());
        let begin = stream::once(async { Ok(Bytes::from(place)) });
        let expiry = self.reader.expires_at.and_then(instant);
        let rest = stream::unfold(Some(self), move |subscription| async move {
            let mut subscription = subscription?;
            let (text, next) = subscription.frames(expiry).await;
            let going_on = match next {
                Next::More => Some(subscription),
                Next::End => None,
            };
            Some((Ok(Bytes::from(text)), going_on))
        });
        stream::StreamExt::chain(begin, rest)
    }

    /// The next frames, once there is something to say.
    async fn frames(&mut self, expiry: Option<Instant>) -> (String, Next) {
        let expired = async {
            match expiry {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        let told = tokio::select! {
            biased;
            // Whoever would end the server is gone: as good as ending it.
            _ = self.draining.wait_for(|draining| *draining) => {
                let detail = "the server is shutting down; go on after the last id";
                Err(Problem::new(ProblemType::ShuttingDown, detail))
            }
            () = expired => Err(Identity::expired(&self.reader.name)),
            told = timeout(self.heartbeat, self.feed.next()) => match told {
                Ok(told) => told.map(Some).map_err(Problem::from),
                Err(_) => Ok(None),
            },
        };
        match told {
            Ok(Some(told)) => (self.gather(&told), Next::More),
            // Without data it is no event; it moves on where a filtered reader would go on.
            Ok(None) => (format!(": heartbeat\nid: {}\n\n", self.feed.cursor()), Next::More),
            Err(problem) => (self.last(problem), Next::End),
        }
    }

    /// The frame of `told`, and of what is there already.
    fn gather(&mut self, told: &P::Item) -> String {
        let mut text = String::new();
        told.frame(&mut text);
        while text.len() < CHUNK_BYTES {
            // An error is met again by the next call.
            let Some(Ok(told)) = self.feed.next().now_or_never() else { break };
            told.frame(&mut text);
        }
        text
    }

    /// The frame that ends a stream.
    fn last(&self, problem: Problem) -> String {
        let (place, problem) = (self.feed.cursor(), problem.into_json());
        format!("id: {place}\nevent: error\ndata: {problem}\n\n")
    }
}

impl Told for Event {
    fn frame(&self, text: &mut String) {
        // Strings and numbers: writing them can't fail. It has no line breaks.
        let data = serde_json::to_string(self).unwrap_or_default();
        let (id, kind) = (self.cursor(), self.kind());
        let _ = write!(text, "id: {id}\nevent: {kind}\ndata: {data}\n\n");
    }
}

impl Told for Letter {
    fn frame(&self, text: &mut String) {
        let told = StreamedMessage::of(self).and_then(|told| serde_json::to_string(&told));
        let _ = match told {
            // A payload is as it was published, which may have been on several lines.
            Ok(data) => {
                let data = data.replace("\r\n", "\n").replace(['\n', '\r'], "\ndata: ");
                write!(text, "id: {}\nevent: message\ndata: {data}\n\n", self.id)
            }
            // Then no client has published it. It must not keep the others back.
            Err(error) => {
                tracing::warn!(id = %self.id, %error, "a message is not told: it is no JSON");
                write!(text, ": message {} is no JSON\nid: {}\n\n", self.id, self.id)
            }
        };
    }
}

/// `None` for what is too far away to be waited for.
fn instant(at: OffsetDateTime) -> Option<Instant> {
    let left = at - OffsetDateTime::now_utc();
    Instant::now().checked_add(left.try_into().unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::{StreamExt, future::try_join_all};
    use tidegate::{Adjustment, EventKind, SkuPatch, Tidegate};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::config::Role;

    async fn subscribe<P: Pick>(mut feed: Feed<P>) -> (watch::Sender<bool>, Subscription<P>) {
        feed.open().await.unwrap();
        let (drain, draining) = watch::channel(false);
        let reader = Identity { name: Arc::from(""), role: Role::Read, expires_at: None };
        let _seat = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
        let heartbeat = Duration::from_secs(60);
        (drain, Subscription { feed, heartbeat, draining, reader, _seat })
    }

    async fn open(folder: &std::path::Path) -> Tidegate {
        let small = Tidegate::builder(folder).segment_bytes(1 << 20).stock_shards(1);
        let small = small.order_shards(1).arbiters(1);
        let gate = small.events_retained_bytes(0).snapshot_every_bytes(1 << 20).open().await;
        let gate = gate.unwrap();
        gate.stock().define("tea", SkuPatch::default()).await.unwrap();
        gate
    }

    /// Books stock in until `enough`.
    async fn write(gate: &Tidegate, enough: impl Fn(&Tidegate) -> bool) {
        let reason = "r".repeat(200);
        for round in 0.. {
            if enough(gate) {
                return;
            }
            let each = (0..128).map(|lane| {
                let (more, key) = (Adjustment::new("tea", 1, &*reason), format!("{round}-{lane}"));
                async move { gate.stock().adjust(more, &key).await.map(drop) }
            });
            try_join_all(each).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_reader_who_is_too_slow_is_told_so_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let gate = open(folder.path()).await;
        write(&gate, |gate| gate.report().durable.0 > 1_000).await;
        let (_drain, subscription) = subscribe(gate.events().from_oldest()).await;
        let mut frames = Box::pin(subscription.into_frames());
        assert_eq!(frames.next().await.unwrap().unwrap(), "id: 0\n\n");
        let first = frames.next().await.unwrap().unwrap();
        assert!(first.starts_with(b"id: 1\nevent: stock.defined\n"), "{first:?}");
        assert!(first.len() < 2 * CHUNK_BYTES, "{} bytes at once", first.len());
        // Nobody reads, and nothing of it is kept for the reader.
        write(&gate, |gate| gate.report().oldest.0 > 2_000).await;
        let rest: Vec<_> = frames.map(Result::unwrap).collect().await;
        let (last, events) = rest.split_last().unwrap();
        let last = std::str::from_utf8(last).unwrap();
        let (head, problem) = last.split_once("\ndata: ").unwrap();
        assert!(head.starts_with("id: ") && head.ends_with("\nevent: error"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(problem.trim()).unwrap();
        assert_eq!(problem["type"], "/problems/position-trimmed");
        assert!(problem["oldest_position"].as_u64().unwrap() > 2_000, "{problem}");
        let bytes: usize = events.iter().map(Bytes::len).sum();
        assert!(bytes < 256 * 1_024, "a page at most was read ahead, not {bytes} bytes");
        gate.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_closed_store_ends_its_streams() {
        let folder = tempfile::tempdir().unwrap();
        let gate = open(folder.path()).await;
        let only = gate.events().clone().only([EventKind::HoldPlaced]);
        let (_drain, subscription) = subscribe(only.from_oldest()).await;
        let frames = tokio::spawn(subscription.into_frames().collect::<Vec<_>>());
        gate.close().await.unwrap();
        let frames = frames.await.unwrap();
        let last = frames.last().unwrap().as_ref().unwrap();
        let text = std::str::from_utf8(last).unwrap();
        assert!(text.contains("event: error") && text.contains("/problems/events-ended"), "{text}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stream_ends_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let gate = open(folder.path()).await;
        let (_drain, mut subscription) = subscribe(gate.events().from_now()).await;
        let soon = OffsetDateTime::now_utc() + Duration::from_millis(50);
        subscription.reader.expires_at = Some(soon);
        let frames: Vec<_> = subscription.into_frames().map(Result::unwrap).collect().await;
        let last = std::str::from_utf8(frames.last().unwrap()).unwrap();
        assert!(last.contains("event: error") && last.contains("/problems/api-key-expired"));
        gate.close().await.unwrap();
    }
}
