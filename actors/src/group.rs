//! The router: all shards of one kind of machine, as one thing to ask. It knows which shard sits
//! where; *which* shard a command belongs to is the caller's word (see `machines`).

use std::{
    any::Any,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, OnceLock},
};

use actix::{Addr, Supervisor};
use tidegate_machines::Timestamp;
use tidegate_storage::Position;
use tokio::sync::{mpsc, oneshot};

use crate::{
    admission::Permit,
    door::Door,
    durable::{Deliver, Durable},
    error::{AskError, RestoreError},
    front::Front,
    observe::ShardReport,
    replay::{self, Replay},
    shard::{Envelope, Inspect, Kit, Look, Numbered, Restore, Shard, ShardActor, Wake},
    snapshotter::{Copy, Snapshottable},
};

/// What a question to a shard of `M` comes to.
pub type Outcome<M> = Result<
    <M as tidegate_machines::Machine>::Reply,
    AskError<<M as tidegate_machines::Machine>::Rejection>,
>;

/// A caller's credit for one command to a shard of `M`. Comes back when that is answered, or when
/// this is dropped.
pub struct Credit<M> {
    index: u16,
    permit: Permit,
    shards: PhantomData<fn() -> M>,
}

/// A command with the credit that lets it in; or why there is none, which then is its outcome.
pub type Question<M> = Result<
    (Credit<M>, <M as tidegate_machines::Machine>::Command),
    AskError<<M as tidegate_machines::Machine>::Rejection>,
>;

/// All shards of one kind, as other parts of the store reach them.
pub trait Reach<M: Durable>: Send {
    /// How many shards there are.
    fn count(&self) -> u16;

    /// See [`Group::tell`]. Takes all of `commands`; the list can be filled again.
    fn tell(&self, index: u16, commands: &mut Vec<M::Command>);

    /// See [`Group::look`].
    fn look(&self, index: u16, look: Look<M>);
}

impl<M: Durable> Reach<M> for Group<M> {
    fn count(&self) -> u16 {
        self.len()
    }

    fn tell(&self, index: u16, commands: &mut Vec<M::Command>) {
        let commands = commands.drain(..).map(Envelope::told);
        match self.inner.wired.get() {
            Some(wired) => wired.leave(index, commands),
            None => tracing::error!(shards = M::NAME, index, "told something before its start"),
        }
    }

    fn look(&self, index: u16, look: Look<M>) {
        self.shards()[usize::from(index)].do_send(Inspect(look));
    }
}

/// A group of shards, whatever they own: what opening and closing a store need of it.
pub trait Shards: Snapshottable + Any {
    /// Has every shard rebuilt, with its records from `replay`, and then drive its open effects
    /// again. Gives what each says when it is ready.
    fn restore(&self, replay: &mut Replay) -> Vec<oneshot::Receiver<Result<(), RestoreError>>>;

    /// The machine of every shard before its first event, as a copy of position `at`.
    fn fresh(&self, at: Position) -> Vec<Copy>;

    /// See [`Group::close_admission`].
    fn close_admission(&self);

    /// See [`Group::in_flight`].
    fn in_flight(&self) -> usize;

    /// See [`Group::report`].
    fn report(&self) -> Vec<ShardReport>;

    /// Resolves when every shard has worked off what was in its mailbox at the call.
    fn pass(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

impl<M: Durable> Shards for Group<M> {
    fn restore(&self, replay: &mut Replay) -> Vec<oneshot::Receiver<Result<(), RestoreError>>> {
        let restored = |(shard, stream): (&Addr<ShardActor<M>>, _)| {
            let (ready, wait) = oneshot::channel();
            shard.do_send(Restore { seat: replay.seat(stream), ready });
            wait
        };
        self.shards().iter().zip(self.streams()).map(restored).collect()
    }

    fn fresh(&self, at: Position) -> Vec<Copy> {
        let of = |(index, stream)| Copy::of(stream, &(self.kit().fresh)(index), at, Timestamp(0));
        (0..).zip(self.streams()).map(of).collect()
    }

    fn close_admission(&self) {
        self.close_admission();
    }

    fn in_flight(&self) -> usize {
        self.in_flight()
    }

    fn report(&self) -> Vec<ShardReport> {
        self.report()
    }

    fn pass(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            for index in 0..self.len() {
                self.inspect(index, |_, _| ()).await;
            }
        })
    }
}

/// All shards of one kind. Cheap to clone; `Send + Sync`; usable from any thread and any runtime.
pub struct Group<M: Durable> {
    inner: Arc<Inner<M>>,
}

impl<M: Durable> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<M: Durable> {
    kit: Arc<Kit<M>>,
    doors: Vec<Door<M>>,
    wired: OnceLock<Wired<M>>,
}

struct Wired<M: Durable> {
    shards: Vec<Addr<ShardActor<M>>>,
    fronts: Vec<Arc<Front<Envelope<M>>>>,
}

impl<M: Durable> Wired<M> {
    /// Leaves commands for shard `index`; never waits.
    fn leave(&self, index: u16, commands: impl IntoIterator<Item = Envelope<M>>) {
        let index = usize::from(index);
        if self.fronts[index].leave(commands) {
            self.shards[index].do_send(Wake);
        }
    }
}

impl<M: Durable> Group<M> {
    /// A group of `shards` shards that does not run yet, so that groups can be wired to each other.
    pub fn new(shards: u16, kit: Kit<M>) -> Self {
        let in_flight_max = kit.options.in_flight_max;
        let doors = (0..shards.max(1)).map(|index| Door::new(index, in_flight_max)).collect();
        Self { inner: Arc::new(Inner { kit: Arc::new(kit), doors, wired: OnceLock::new() }) }
    }

    /// Starts the actors, spread over `arbiters`: shard *i* lives on arbiter *i* mod n. They take
    /// commands only after [`Group::restore`].
    pub fn start(
        &self,
        arbiters: &[actix_rt::ArbiterHandle],
        mut post: impl FnMut(u16) -> Box<dyn Deliver<M>>,
    ) {
        let (mut shards, mut fronts) = (Vec::new(), Vec::new());
        for (index, door) in (0u16..).zip(&self.inner.doors) {
            let (kit, front) = (Arc::clone(&self.inner.kit), Arc::new(Front::default()));
            let shard = Shard::new(index, kit, door, post(index));
            let shard = ShardActor::new(shard, Arc::clone(&front));
            let arbiter = &arbiters[usize::from(index) % arbiters.len()];
            shards.push(Supervisor::start_in_arbiter(arbiter, |_| shard));
            fronts.push(front);
        }
        if self.inner.wired.set(Wired { shards, fronts }).is_err() {
            tracing::error!(shards = M::NAME, "started twice; the second start is ignored");
        }
    }

    /// [`restore`](crate::restore()) for this group alone.
    ///
    /// # Errors
    /// The first shard that can't be rebuilt.
    pub async fn restore(&self) -> Result<(), RestoreError> {
        let Kit { journal, clock, .. } = self.kit();
        let this: Arc<dyn Shards> = Arc::new(self.clone());
        replay::restore(&[this], Arc::clone(journal), Arc::clone(clock), Arc::default()).await
    }

    /// A credit for one command to shard `index`. Who takes it first does no work for a command
    /// that the shard has no room for.
    ///
    /// # Errors
    /// [`AskError::Overloaded`] or [`AskError::Closing`], at once.
    pub fn admit(&self, index: u16) -> Result<Credit<M>, AskError<M::Rejection>> {
        let permit = self.inner.doors[usize::from(index)].permit()?;
        Ok(Credit { index, permit, shards: PhantomData })
    }

    /// [`Group::ask_with`] a credit of its own.
    ///
    /// # Errors
    /// As there, and those of [`Group::admit`].
    pub fn ask(
        &self,
        index: u16,
        command: M::Command,
    ) -> impl Future<Output = Outcome<M>> + use<M> {
        let asked = self.admit(index).map(|credit| self.ask_with(credit, command));
        async move { asked?.await }
    }

    /// Asks the shard that `credit` is for. Resolves when the answer is safe: everything it was
    /// derived from is on disk. Dropping the future does not take the command back.
    ///
    /// # Errors
    /// [`AskError`]; only [`AskError::Unavailable`] leaves the outcome open.
    pub fn ask_with(
        &self,
        credit: Credit<M>,
        command: M::Command,
    ) -> impl Future<Output = Outcome<M>> + use<M> {
        let sent = self.inner.wired.get().map(|wired| {
            let (envelope, answer) = Envelope::asked(command, credit.permit);
            wired.leave(credit.index, [envelope]);
            answer
        });
        async move { sent.ok_or(AskError::Closing)?.await.unwrap_or_else(|_| gone::<M>()) }
    }

    /// Asks shard `index` something that only reads. Answered on this thread if the machine can
    /// ([`Durable::read`]) and all that the answer shows is on disk; else as by [`Group::ask`].
    ///
    /// # Errors
    /// As for [`Group::ask`].
    pub fn read(
        &self,
        index: u16,
        command: M::Command,
    ) -> impl Future<Output = Outcome<M>> + use<M> {
        let read = self.inner.doors[usize::from(index)].read(&command);
        let asked = if read.is_none() { Some(self.ask(index, command)) } else { None };
        async move {
            match (read, asked) {
                (Some(outcome), _) => outcome,
                (None, Some(asked)) => asked.await,
                (None, None) => gone::<M>(),
            }
        }
    }

    /// Asks many things together, each with its credit; gives the answers in the order of the
    /// questions once all are there. Each is as if it was asked alone ([`Group::ask_with`]), and
    /// those of one shard are taken in their order. A question that can't be asked stands for its
    /// own answer.
    pub fn ask_many(
        &self,
        questions: Vec<Question<M>>,
    ) -> impl Future<Output = Vec<Outcome<M>>> + use<M> {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut outcomes = self.submit_many(questions, &sender);
        // What is left of it is with the commands: it ends when all are answered or gone.
        drop(sender);
        async move {
            let mut answers = Vec::new();
            while receiver.recv_many(&mut answers, outcomes.len().max(1)).await > 0 {
                for (number, outcome) in answers.drain(..) {
                    outcomes[number] = Some(outcome);
                }
            }
            outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(gone::<M>)).collect()
        }
    }

    /// Sends `questions` off; gives the outcome of those that are not taken.
    fn submit_many(
        &self,
        questions: Vec<Question<M>>,
        sender: &mpsc::UnboundedSender<Numbered<M>>,
    ) -> Vec<Option<Outcome<M>>> {
        let Some(wired) = self.inner.wired.get() else {
            let closing =
                |question: Question<M>| Some(Err(question.err().unwrap_or(AskError::Closing)));
            return questions.into_iter().map(closing).collect();
        };
        let mut batches: Vec<Vec<Envelope<M>>> = Vec::new();
        batches.resize_with(wired.fronts.len(), Vec::new);
        let mut outcomes = Vec::with_capacity(questions.len());
        for (number, question) in questions.into_iter().enumerate() {
            outcomes.push(match question {
                Ok((Credit { index, permit, .. }, command)) => {
                    let envelope = Envelope::asked_among(command, permit, number, sender.clone());
                    batches[usize::from(index)].push(envelope);
                    None
                }
                Err(why) => Some(Err(why)),
            });
        }
        for (index, batch) in (0..).zip(batches) {
            wired.leave(index, batch);
        }
        outcomes
    }

    /// [`Door::refuse_beside`] of shard `index`.
    #[must_use]
    pub fn refuse_beside(&self, index: u16) -> bool {
        self.inner.doors[usize::from(index)].refuse_beside()
    }

    /// Sends commands from inside the store (effects of other shards, the projector) to shard
    /// `index`, in order, with no reply and past admission: their number is bounded by the
    /// commands that caused them.
    pub fn tell(&self, index: u16, mut commands: Vec<M::Command>) {
        Reach::tell(self, index, &mut commands);
    }

    /// Runs `look` on shard `index`'s thread with its machine and a position: the machine holds
    /// everything that its stream has in the journal up to there (which may not be durable yet).
    /// `None` while the shard is down.
    pub async fn inspect<T: Send + 'static>(
        &self,
        index: u16,
        look: impl FnOnce(&M, Position) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.look(index, move |machine, position| {
            // The asker may have gone: nothing is lost with an answer nobody wants.
            let _ = sender.send(look(machine, position));
        });
        receiver.await.ok()
    }

    /// [`Group::inspect`] for threads: `look` gets its result out by itself, and is dropped unrun
    /// while the shard is down.
    pub fn look(&self, index: u16, look: impl FnOnce(&M, Position) + Send + 'static) {
        Reach::look(self, index, Box::new(look));
    }

    /// How many shards there are.
    #[must_use]
    pub fn len(&self) -> u16 {
        self.inner.doors.len() as u16
    }

    /// Never: a group has at least one shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Takes no more commands from callers.
    pub fn close_admission(&self) {
        self.inner.doors.iter().for_each(Door::close);
    }

    /// Commands from callers that have no answer yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.doors.iter().map(Door::in_flight).sum()
    }

    /// The figures of every shard.
    #[must_use]
    pub fn report(&self) -> Vec<ShardReport> {
        self.inner.doors.iter().map(Door::report).collect()
    }

    pub(crate) fn kit(&self) -> &Kit<M> {
        &self.inner.kit
    }

    fn shards(&self) -> &[Addr<ShardActor<M>>] {
        self.inner.wired.get().map_or(&[], |wired| &wired.shards)
    }
}

/// The shard has dropped the command.
fn gone<M: Durable>() -> Outcome<M> {
    Err(AskError::Unavailable { why: "the shard went away".to_owned() })
}
