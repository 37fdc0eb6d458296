//! Events on their way to one reader, as frames of server-sent events. A frame is made when the
//! connection has room for it and not before, so a slow reader costs a page of events and holds
//! nobody up. It parses no request; `routes/events` does.

use std::{convert::Infallible, fmt::Write, future::pending, time::Duration};

use actix_web::web::Bytes;
use futures_util::{
    FutureExt,
    stream::{self, Stream},
};
use tidegate::{Event, Feed};
use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    access::Identity,
    problem::{Problem, ProblemType},
};

/// What is there already is put together up to this size.
const CHUNK_BYTES: usize = 16 << 10;

/// A reader of events.
pub(super) struct Subscription {
    /// Opened already.
    pub(super) feed: Feed,
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

impl Subscription {
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
            Ok(Some(event)) => (self.gather(&event), Next::More),
            // Without data it is no event; it moves on where a filtered reader would go on.
            Ok(None) => (format!(": heartbeat\nid: {}\n\n", self.feed.cursor()), Next::More),
            Err(problem) => (self.last(problem), Next::End),
        }
    }

    /// The frame of `event`, and of those that are there already.
    fn gather(&mut self, event: &Event) -> String {
        let mut text = String::new();
        frame(&mut text, event);
        while text.len() < CHUNK_BYTES {
            // An error is met again by the next call.
            let Some(Ok(event)) = self.feed.next().now_or_never() else { break };
            frame(&mut text, &event);
        }
        text
    }

    /// The frame that ends a stream.
    fn last(&self, problem: Problem) -> String {
        let (place, problem) = (self.feed.cursor(), problem.into_json());
        format!("id: {place}\nevent: error\ndata: {problem}\n\n")
    }
}

fn frame(text: &mut String, event: &Event) {
    // Strings and numbers: writing them can't fail. JSON has no line breaks.
    let data = serde_json::to_string(event).unwrap_or_default();
    let (id, kind) = (event.cursor(), event.kind());
    let _ = write!(text, "id: {id}\nevent: {kind}\ndata: {data}\n\n");
}

/// `None` for what is too far away to be waited for.
fn instant(at: OffsetDateTime) -> Option<Instant> {
    let left = at - OffsetDateTime::now_utc();
    Instant::now().checked_add(left.try_into().unwrap_or(Duration::ZERO))
}
