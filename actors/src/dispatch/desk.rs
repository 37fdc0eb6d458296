//! What a group has at hand: messages that were read, who has which, and for how long. Only the
//! present process knows it; what must survive is in the consumer machine, which also has the last
//! word on every lease. It asks nobody and never waits.

#[cfg(test)]
mod interleaved;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tidegate_machines::{
    GroupView, LeaseToken, Letter, MessageId, MessageKey, Pending, Timestamp, bounds,
};

/// Payload bytes at hand after which nothing more is read ahead.
const AT_HAND_BYTES_MAX: usize = 8 << 20;

/// When nothing on a desk is due.
pub(super) const NEVER: Timestamp = Timestamp(u64::MAX);

/// See the module.
pub(super) struct Desk {
    /// The machine's number for the last move of the group: a desk is of one move only.
    moved: u64,
    /// Every message after the cursor that was read, resolved ones too.
    window: BTreeMap<MessageId, Slot>,
    /// Dead letters that are tried again.
    again: BTreeMap<MessageId, Slot>,
    /// What is not resolved of each key, in order.
    lines: HashMap<MessageKey, BTreeSet<MessageId>>,
    bytes: usize,
    /// The machine knows all that was read up to here.
    known_to: MessageId,
    /// Up to here there is no further message.
    heard_to: MessageId,
    /// What the machine knows of messages that are still to be read again. Of all others up to
    /// `known_to` it knows that they are resolved.
    remembered: BTreeMap<MessageId, Pending>,
    paused: bool,
    /// The group is being changed: nothing is handed out.
    changing: bool,
    /// Nothing has its time before this.
    due: Timestamp,
}

struct Slot {
    letter: Option<Letter>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Free {
        not_before: Timestamp,
    },
    /// The machine is being asked for an attempt.
    Offered,
    Leased {
        token: LeaseToken,
        until: Timestamp,
    },
    /// Its time is over, and the machine is being told. If it could not be, it is told once more.
    Ending {
        token: LeaseToken,
        again_at: Timestamp,
    },
    Resolved,
}

impl State {
    fn token(&self) -> Option<LeaseToken> {
        match self {
            Self::Leased { token, .. } | Self::Ending { token, .. } => Some(*token),
            Self::Free { .. } | Self::Offered | Self::Resolved => None,
        }
    }

    fn is_in_hands(&self) -> bool {
        *self == Self::Offered || self.token().is_some()
    }
}

impl Slot {
    fn free(letter: Letter, not_before: Timestamp) -> Self {
        Self { letter: Some(letter), state: State::Free { not_before } }
    }

    /// Learns what the machine knew of it when the newest lease was `newest`; whether it is over.
    fn agree(&mut self, pending: Option<&Pending>, newest: LeaseToken) -> bool {
        let Some(pending) = pending else { return self.state != State::Resolved };
        if let Some(token) = self.state.token()
            && token <= newest
            && pending.token != Some(token)
        {
            self.state = State::Free { not_before: pending.not_before };
        }
        false
    }
}

/// Messages that may be handed out, and what the machine must know first.
pub(super) struct Offer {
    pub(super) after: MessageId,
    pub(super) read: Vec<MessageId>,
    pub(super) letters: Vec<Letter>,
}

impl Desk {
    /// As the machine has it.
    pub(super) fn new(view: GroupView) -> Self {
        let mut desk = Self {
            moved: view.moved,
            window: BTreeMap::new(),
            again: BTreeMap::new(),
            lines: HashMap::new(),
            bytes: 0,
            known_to: view.read_to,
            heard_to: view.cursor,
            remembered: view.pending.into_iter().map(|pending| (pending.id, pending)).collect(),
            paused: view.paused,
            changing: false,
            due: NEVER,
        };
        for (pending, letter) in view.again {
            desk.add_again(letter, pending.not_before);
        }
        desk
    }

    /// The machine's number for the move that this desk is of.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// The newest lease of which something is here.
    pub(super) fn newest(&self) -> LeaseToken {
        self.slots().filter_map(|slot| slot.state.token()).max().unwrap_or_default()
    }

    /// Learns from `view`, which is of the same move, and was asked for when [`Desk::newest`] gave
    /// `newest`. What has changed here since then stays.
    pub(super) fn agree(&mut self, view: GroupView, newest: LeaseToken) {
        (self.paused, self.changing) = (view.paused, false);
        self.known_to = self.known_to.max(view.read_to);
        let mut pending: BTreeMap<_, _> =
            view.pending.into_iter().map(|one| (one.id, one)).collect();
        let known = self.window.iter_mut().filter(|(id, _)| **id <= view.read_to);
        let over =
            known.filter_map(|(id, slot)| slot.agree(pending.get(id), newest).then_some(*id));
        over.collect::<Vec<_>>().into_iter().for_each(|id| self.finish(id, false));
        pending.retain(|id, _| *id > self.heard_to);
        self.remembered = pending;
        let mut again: BTreeMap<_, _> = view.again.into_iter().map(|one| (one.0.id, one)).collect();
        let known = self.again.iter_mut();
        let over = known.filter_map(|(id, slot)| {
            slot.agree(again.get(id).map(|(pending, _)| pending), newest).then_some(*id)
        });
        over.collect::<Vec<_>>().into_iter().for_each(|id| self.finish(id, true));
        again.retain(|id, _| !self.again.contains_key(id));
        for (pending, letter) in again.into_values() {
            self.add_again(letter, pending.not_before);
        }
        self.tidy();
        self.next_due(Timestamp(0));
    }

    /// Nothing on the desk has its time before this.
    pub(super) fn due(&self) -> Timestamp {
        self.due
    }

    /// When the first lease is over, or the first message may be had that can't be had at `now`.
    pub(super) fn next_due(&mut self, now: Timestamp) -> Timestamp {
        let due = self.slots().filter_map(|slot| match slot.state {
            State::Free { not_before } => (not_before > now).then_some(not_before),
            State::Leased { until, .. } => Some(until),
            State::Ending { again_at, .. } => Some(again_at),
            State::Offered | State::Resolved => None,
        });
        self.due = due.min().unwrap_or(NEVER);
        self.due
    }

    fn is_due(&mut self, at: Timestamp) {
        // What can be had at any time has none.
        if at > Timestamp(0) {
            self.due = self.due.min(at);
        }
    }

    /// Where reading begins.
    pub(super) fn begins_after(&self) -> MessageId {
        self.heard_to
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.window.len() < bounds::WINDOW_MAX && self.bytes < AT_HAND_BYTES_MAX
    }

    /// `letter` was read: the next of the topic.
    pub(super) fn read(&mut self, letter: Letter) {
        let id = letter.id;
        self.heard_to = self.heard_to.max(id);
        let not_before = match self.remembered.remove(&id) {
            Some(pending) => pending.not_before,
            None if id <= self.known_to => {
                self.window.insert(id, Slot { letter: None, state: State::Resolved });
                self.tidy();
                return;
            }
            None => Timestamp(0),
        };
        self.line_up(&letter);
        self.is_due(not_before);
        self.window.insert(id, Slot::free(letter, not_before));
    }

    /// A dead letter is to be tried again.
    fn add_again(&mut self, letter: Letter, not_before: Timestamp) {
        self.line_up(&letter);
        self.is_due(not_before);
        self.again.insert(letter.id, Slot::free(letter, not_before));
    }

    fn line_up(&mut self, letter: &Letter) {
        self.bytes += letter.payload.bytes().len();
        if let Some(key) = &letter.key {
            self.lines.entry(key.clone()).or_default().insert(letter.id);
        }
    }

    /// Everything before `place` was read.
    pub(super) fn heard(&mut self, place: MessageId) {
        self.heard_to = self.heard_to.max(place);
    }

    /// From where to where the cursor could go on with nothing left behind, if that is `records` or
    /// more.
    pub(super) fn can_pass(&self, records: u64) -> Option<(MessageId, MessageId)> {
        let behind = self.heard_to.position.saturating_sub(self.known_to.position);
        let empty = self.window.is_empty() && self.remembered.is_empty();
        let places = (self.known_to, self.heard_to);
        (empty && !self.changing && behind >= records).then_some(places)
    }

    /// The machine knows that there is nothing more up to `place`.
    pub(super) fn known(&mut self, place: MessageId) {
        self.known_to = self.known_to.max(place);
        self.tidy();
    }

    /// Up to `max` messages that nobody has, the first of each key only: those behind it wait until
    /// it is resolved. They are offered now.
    pub(super) fn offer(&mut self, max: usize, now: Timestamp) -> Option<Offer> {
        if self.paused || self.changing {
            return None;
        }
        // A dead letter that is tried again stands before those of its key that are in hands.
        let in_hands = self.slots().filter(|slot| slot.state.is_in_hands());
        let busy: HashSet<MessageKey> =
            in_hands.filter_map(|slot| slot.letter.as_ref()?.key.clone()).collect();
        let lines = &self.lines;
        let is_first = |letter: &Letter| {
            let Some(key) = &letter.key else { return true };
            let line = lines.get(key);
            !busy.contains(key) && line.is_none_or(|line| line.first() == Some(&letter.id))
        };
        let mut letters = Vec::new();
        for slot in self.again.values_mut().chain(self.window.values_mut()) {
            if letters.len() >= max {
                break;
            }
            let free = matches!(slot.state, State::Free { not_before } if not_before <= now);
            let letter = slot.letter.as_ref().filter(|letter| free && is_first(letter));
            if let Some(letter) = letter {
                letters.push(letter.clone());
                slot.state = State::Offered;
            }
        }
        let last = letters.last()?.id;
        let read = self.window.keys().copied();
        let read = read.filter(|id| *id > self.known_to && *id <= last).collect();
        Some(Offer { after: self.known_to, read, letters })
    }

    /// The machine has not taken `id`: it may be offered again, but not before its time.
    pub(super) fn withdraw(&mut self, id: MessageId, not_before: Timestamp) {
        let offered = |slot: &Slot| slot.state == State::Offered;
        if let Some(slot) = self.find(id, offered) {
            slot.state = State::Free { not_before };
            self.is_due(not_before);
        }
    }

    /// Somebody has `id` until `until`, if it was offered.
    pub(super) fn lease(
        &mut self,
        id: MessageId,
        token: LeaseToken,
        until: Timestamp,
    ) -> Option<Letter> {
        let slot = self.find(id, |slot| slot.state == State::Offered)?;
        slot.state = State::Leased { token, until };
        let letter = slot.letter.clone();
        self.is_due(until);
        letter
    }

    /// Who has `id` by `token` has it until `until`; false if nobody has.
    pub(super) fn extend(
        &mut self,
        id: MessageId,
        token: LeaseToken,
        (now, until): (Timestamp, Timestamp),
    ) -> bool {
        let slot = self.find(id, |slot| slot.state.token() == Some(token));
        match slot.map(|slot| &mut slot.state) {
            Some(State::Leased { until: end, .. }) if *end > now => {
                *end = until;
                self.is_due(until);
                true
            }
            _ => false,
        }
    }

    /// The message that somebody has by `token`, unless its time is over.
    pub(super) fn leased(&mut self, id: MessageId, token: LeaseToken) -> Option<Letter> {
        let has =
            |slot: &Slot| matches!(slot.state, State::Leased { token: of, .. } if of == token);
        self.find(id, has)?.letter.clone()
    }

    /// Up to `max` messages that somebody has for longer than was agreed: from now on nobody has
    /// them. They are told of once more only after `again_at`.
    pub(super) fn overdue(
        &mut self,
        max: usize,
        now: Timestamp,
        again_at: Timestamp,
    ) -> Vec<(Letter, LeaseToken)> {
        let slots = self.again.values_mut().chain(self.window.values_mut());
        let overdue = slots.filter_map(|slot| match slot.state {
            State::Leased { token, until: end } | State::Ending { token, again_at: end }
                if end <= now =>
            {
                slot.state = State::Ending { token, again_at };
                Some((slot.letter.clone()?, token))
            }
            _ => None,
        });
        overdue.take(max).collect()
    }

    /// The lease `token` of `id` has failed; the message may be tried again then.
    pub(super) fn failed(&mut self, id: MessageId, token: LeaseToken, not_before: Timestamp) {
        if let Some(slot) = self.find(id, |slot| slot.state.token() == Some(token)) {
            slot.state = State::Free { not_before };
            self.is_due(not_before);
        }
    }

    /// `id` is done or dead, and the lease `token` was its last. False if the desk knows nothing of
    /// that lease: it is one of before the group was opened.
    pub(super) fn resolve(&mut self, id: MessageId, token: LeaseToken) -> bool {
        let has = |slot: &Slot| slot.state.token() == Some(token);
        if self.again.get(&id).is_some_and(has) {
            self.finish(id, true);
        } else if self.window.get(&id).is_some_and(has) {
            self.finish(id, false);
        } else {
            return false;
        }
        true
    }

    fn finish(&mut self, id: MessageId, again: bool) {
        let letter = if again {
            self.again.remove(&id).and_then(|slot| slot.letter)
        } else {
            self.window.get_mut(&id).and_then(|slot| {
                slot.state = State::Resolved;
                slot.letter.take()
            })
        };
        let Some(letter) = letter else { return };
        self.bytes -= letter.payload.bytes().len();
        if let Some(key) = letter.key
            && let Some(line) = self.lines.get_mut(&key)
        {
            line.remove(&id);
            if line.is_empty() {
                self.lines.remove(&key);
            }
        }
        self.tidy();
    }

    /// Lets go of what the machine's cursor has passed.
    fn tidy(&mut self) {
        while let Some(first) = self.window.first_entry() {
            if first.get().state != State::Resolved || *first.key() > self.known_to {
                return;
            }
            first.remove();
        }
    }

    /// Begins or ends a change of the group: nothing is handed out until it ends, or the desk
    /// agrees with the machine, or another is made.
    pub(super) fn set_changing(&mut self, changing: bool) {
        self.changing = changing;
    }

    /// When the oldest message at hand that is not resolved was published.
    pub(super) fn oldest_at(&self) -> Option<Timestamp> {
        let slots = self.again.values().chain(self.window.values());
        slots.filter_map(|slot| slot.letter.as_ref()).map(|letter| letter.at).min()
    }

    /// Messages at hand that are not resolved, and those that somebody has.
    pub(super) fn counts(&self) -> (usize, usize) {
        let open = self.slots().filter(|slot| slot.letter.is_some()).count();
        let leased = self.slots().filter(|slot| slot.state.token().is_some()).count();
        (open, leased)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.again.values().chain(self.window.values())
    }

    fn find(&mut self, id: MessageId, wanted: impl Fn(&Slot) -> bool) -> Option<&mut Slot> {
        let again = self.again.get_mut(&id).filter(|slot| wanted(slot));
        again.or_else(|| self.window.get_mut(&id).filter(|slot| wanted(slot)))
    }
}
