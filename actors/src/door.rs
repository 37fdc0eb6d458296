//! What a shard shows outside its thread: the way in for callers, and its figures. It knows neither
//! where its shard sits nor what runs it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    admission::{Admission, Denied, Permit},
    durable::Durable,
    error::AskError,
    group::Outcome,
    observe::{Phase, ShardGauges, ShardReport},
    shard::{Envelope, guarded},
    shown::Shown,
};

/// See the module.
pub struct Door<M> {
    index: u16,
    admission: Arc<Admission>,
    gauges: Arc<ShardGauges>,
    shown: Arc<Shown<M>>,
}

impl<M: Durable> Door<M> {
    /// The door of shard `index`, through which `in_flight_max` commands of callers may be in at a
    /// time.
    #[must_use]
    pub fn new(index: u16, in_flight_max: usize) -> Self {
        let (admission, gauges) = (Admission::new(in_flight_max), ShardGauges::new());
        Self { index, admission, gauges, shown: Arc::new(Shown::new()) }
    }

    /// Lets `command` of a caller in: what the shard is to take, and where the answer will be. If
    /// that closes without one, the outcome is unknown.
    ///
    /// # Errors
    /// [`AskError::Overloaded`] or [`AskError::Closing`], at once.
    #[allow(clippy::type_complexity)]
    pub fn enter(
        &self,
        command: M::Command,
    ) -> Result<(Envelope<M>, oneshot::Receiver<Outcome<M>>), AskError<M::Rejection>> {
        Ok(Envelope::asked(command, self.permit()?))
    }

    /// A credit for one command.
    pub(crate) fn permit(&self) -> Result<Permit, AskError<M::Rejection>> {
        self.admission.enter().map_err(|denied| match denied {
            Denied::Closed => AskError::Closing,
            Denied::Full => AskError::Overloaded {
                shards: M::NAME,
                index: self.index,
                in_flight_max: self.admission.in_flight_max(),
            },
        })
    }

    /// The answer to a command that only reads, given on this thread from the machine as it is.
    /// `None` if the shard has to be asked: see [`Durable::read`], or it is down or changing just
    /// now.
    #[must_use]
    pub fn read(&self, command: &M::Command) -> Option<Outcome<M>> {
        if self.admission.is_closed() {
            return None;
        }
        let read = || self.shown.read(|machine, on_disk| machine.read(command, on_disk));
        let read = guarded(M::NAME, "a reading", read).flatten()?;
        match &read {
            Ok(_) => self.gauges.read_beside.add(1),
            Err(_) => self.gauges.refused_beside.add(1),
        }
        Some(read.map_err(AskError::Rejected))
    }

    /// Counts a command that its caller's thread refuses by what it knows without the shard. False
    /// if the shard has more to say: it takes no commands any more, is down, or its storage has
    /// failed.
    #[must_use]
    pub fn refuse_beside(&self) -> bool {
        let takes = matches!(self.gauges.phase(), Phase::Running | Phase::Restoring);
        let refuses = takes && !self.admission.is_closed();
        if refuses {
            self.gauges.refused_beside.add(1);
        }
        refuses
    }

    /// Lets no more commands in, and time begins nothing more either.
    pub(crate) fn close(&self) {
        self.admission.close();
        self.gauges.set_closing();
    }

    /// Commands from callers that have no answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.admission.in_flight()
    }

    pub(crate) fn shown(&self) -> Arc<Shown<M>> {
        Arc::clone(&self.shown)
    }

    pub(crate) fn gauges(&self) -> Arc<ShardGauges> {
        Arc::clone(&self.gauges)
    }

    /// The figures of its shard.
    #[must_use]
    pub fn report(&self) -> ShardReport {
        let Self { index, admission, gauges, .. } = self;
        let (read, refused) = (gauges.read_beside.get(), gauges.refused_beside.get());
        ShardReport {
            name: M::NAME,
            index: *index,
            phase: gauges.phase(),
            in_flight: admission.in_flight(),
            commands: gauges.commands.get() + read + refused,
            events: gauges.events.get(),
            rejections: gauges.rejections.get() + refused,
            batches: gauges.batches.get(),
            held: gauges.held.get(),
            waiting: gauges.waiting.get(),
            restarts: gauges.restarts.get(),
            queue: gauges.queue.get(),
            answer_us: admission.answer_us(),
            batch_records: gauges.batch_records.read(),
        }
    }
}
