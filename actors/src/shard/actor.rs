//! The shard as an actor: its mailbox, its ticks, and its way through a restart. What it does with
//! a message is the shard's business.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture,
};
use tidegate_storage::{Position, StorageError};

use super::{
    Host, Shard,
    messages::{Commit, Committed, Envelope, Inspect, Restore, Wake},
};
use crate::{durable::Durable, error::RestoreError, front::Front};

/// How often a shard looks at the time when no command makes it.
const TICK: Duration = Duration::from_millis(100);

/// How often it may be woken before it lets others on its arbiter go first. Seldom, since that ends
/// its turn, and larger turns cost less.
const WAKES_MAX: usize = 8;

/// See the module.
pub(crate) struct ShardActor<M: Durable> {
    shard: Shard<M>,
    front: Arc<Front<Envelope<M>>>,
    /// How often it was woken since its mailbox was last empty.
    wakes: usize,
    /// Set by the first `Restore`; from then on a (re)start restores by itself.
    begun: bool,
}

impl<M: Durable> ShardActor<M> {
    /// Takes commands from `front`.
    pub(crate) fn new(shard: Shard<M>, front: Arc<Front<Envelope<M>>>) -> Self {
        Self { shard, front, wakes: 0, begun: false }
    }

    /// Rebuilds off the arbiter; commands wait in the mailbox meanwhile. `asked` by whoever opens
    /// the store, or alone, after a panic.
    fn restore(&mut self, asked: Option<Restore>, ctx: &mut Context<Self>) {
        let (shards, index) = (M::NAME, self.shard.index);
        let (seat, ready) = asked.map(|Restore { seat, ready }| (seat, ready)).unzip();
        let job = tokio::task::spawn_blocking(self.shard.restoring(seat.flatten()));
        ctx.wait(job.into_actor(self).map(move |result, actor, ctx| {
            let result = result.unwrap_or_else(|panic| {
                let (position, panic) = (Position::ZERO, panic.to_string());
                Err(RestoreError::Fault { shards, index, position, panic })
            });
            match (ready, actor.shard.restored(result, ctx)) {
                // Whoever opens the store may have given up meanwhile.
                (Some(ready), result) => drop(ready.send(result)),
                (None, Err(error)) => tracing::error!(shards, index, %error, "can't be rebuilt"),
                (None, Ok(())) => tracing::info!(shards, index, "rebuilt"),
            }
        }));
    }
}

impl<M: Durable> Host for Context<ShardActor<M>> {
    fn commit_soon(&mut self) {
        // Comes after what is in the mailbox.
        self.notify(Commit);
    }

    fn tell(&self) -> impl FnOnce(Result<Position, StorageError>) + Send + 'static {
        let actor = self.address();
        move |result| actor.do_send(Committed(result))
    }

    fn rebuild(&mut self) {
        // The supervisor starts it again, with the same mailbox.
        self.stop();
    }
}

impl<M: Durable> Drop for ShardActor<M> {
    fn drop(&mut self) {
        self.front.end();
        // Clients may be kept for long, and the machine is not to stay in memory with them.
        self.shard.hide();
    }
}

/// Nothing in a shard is ever pinned, whatever its machine's types are.
impl<M: Durable> Unpin for ShardActor<M> {}

impl<M: Durable> Actor for ShardActor<M> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // Admission bounds what is in the mailbox; actix's own bound would not (see admission).
        ctx.set_mailbox_capacity(usize::MAX >> 4);
        ctx.run_interval(TICK, |actor, ctx| actor.shard.look_at_time(ctx));
        if self.begun {
            self.restore(None, ctx);
        }
    }
}

impl<M: Durable> Supervised for ShardActor<M> {}

impl<M: Durable> Handler<Wake> for ShardActor<M> {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.shard.take_from(&self.front, ctx);
        self.wakes += 1;
        if self.wakes > WAKES_MAX {
            // Callers who are quick could keep it awake for ever: the turn ends, and then the
            // others on this arbiter have theirs.
            self.wakes = 0;
            ctx.wait(tokio::task::yield_now().into_actor(self));
        }
    }
}

impl<M: Durable> Handler<Commit> for ShardActor<M> {
    type Result = ();

    fn handle(&mut self, _: Commit, ctx: &mut Self::Context) {
        self.wakes = 0;
        self.shard.end_turn(ctx);
    }
}

impl<M: Durable> Handler<Committed> for ShardActor<M> {
    type Result = ();

    fn handle(&mut self, Committed(result): Committed, _: &mut Self::Context) {
        self.shard.committed(result);
    }
}

impl<M: Durable> Handler<Inspect<M>> for ShardActor<M> {
    type Result = ();

    fn handle(&mut self, Inspect(look): Inspect<M>, ctx: &mut Self::Context) {
        // What was left before is done before, even if its wake-up is still on its way.
        self.shard.take_from(&self.front, ctx);
        self.shard.inspect(look, ctx);
    }
}

impl<M: Durable> Handler<Restore> for ShardActor<M> {
    type Result = ();

    fn handle(&mut self, asked: Restore, ctx: &mut Self::Context) {
        self.begun = true;
        self.restore(Some(asked), ctx);
    }
}
