//! What a group has at hand: messages that were read, who has which, and for how long. Only the
//! present process knows it; what must survive is in the consumer machine, which also has the last
//! word on every attempt. It asks nobody and never waits.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use tidegate_machines::{
    GroupView, LeaseToken, Letter, MessageId, MessageKey, Pending, Timestamp, bounds,
};

/// Payload bytes at hand after which nothing more is read ahead.
const AT_HAND_BYTES_MAX: usize = 8 << 20;

/// See the module.
pub(super) struct Desk {
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
    /// What the machine knows of messages that are still to be read again.
    remembered: BTreeMap<MessageId, Pending>,
    resolved: BTreeSet<MessageId>,
    paused: bool,
    /// The group is being moved: nothing is handed out.
    moving: bool,
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
    Resolved,
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
            window: BTreeMap::new(),
            again: BTreeMap::new(),
            lines: HashMap::new(),
            bytes: 0,
            known_to: view.read_to,
            heard_to: view.cursor,
            remembered: view.pending.into_iter().map(|pending| (pending.id, pending)).collect(),
            resolved: view.resolved.into_iter().collect(),
            paused: view.paused,
            moving: false,
        };
        for (pending, letter) in view.again {
            desk.add_again(letter, pending.not_before);
        }
        desk
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
        if self.resolved.remove(&id) {
            self.window.insert(id, Slot { letter: None, state: State::Resolved });
            self.tidy();
            return;
        }
        let not_before = self.remembered.remove(&id).map_or(Timestamp(0), |one| one.not_before);
        self.line_up(&letter);
        self.window.insert(id, Slot { letter: Some(letter), state: State::Free { not_before } });
    }

    /// A dead letter is to be tried again. One that is at hand already stays with who has it.
    pub(super) fn add_again(&mut self, letter: Letter, not_before: Timestamp) {
        if self.again.contains_key(&letter.id) {
            return;
        }
        self.line_up(&letter);
        let slot = Slot { state: State::Free { not_before }, letter: Some(letter) };
        self.again.insert(slot.letter.as_ref().map_or_else(MessageId::default, |l| l.id), slot);
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
        (empty && !self.moving && behind >= records).then_some(places)
    }

    /// The machine knows that there is nothing more up to `place`.
    pub(super) fn known(&mut self, place: MessageId) {
        self.known_to = self.known_to.max(place);
        self.tidy();
    }

    /// Up to `max` messages that nobody has, the first of each key only: those behind it wait until
    /// it is resolved. They are offered now.
    pub(super) fn offer(&mut self, max: usize, now: Timestamp) -> Option<Offer> {
        if self.paused || self.moving {
            return None;
        }
        // A dead letter that is tried again stands before those of its key that are in hands.
        let slots = self.again.values().chain(self.window.values());
        let in_hands =
            slots.filter(|slot| matches!(slot.state, State::Offered | State::Leased { .. }));
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

    /// The machine has not taken `id`: it may be offered again.
    pub(super) fn withdraw(&mut self, id: MessageId) {
        if let Some(slot) = self.slot(id)
            && slot.state == State::Offered
        {
            slot.state = State::Free { not_before: Timestamp(0) };
        }
    }

    /// Somebody has `id` until `until`, unless it was withdrawn meanwhile.
    pub(super) fn lease(
        &mut self,
        id: MessageId,
        token: LeaseToken,
        until: Timestamp,
    ) -> Option<Letter> {
        let slot = self.slot(id)?;
        slot.state = State::Leased { token, until };
        slot.letter.clone()
    }

    /// Who has `id` by `token` has it until `until`; false if nobody has.
    pub(super) fn extend(
        &mut self,
        id: MessageId,
        token: LeaseToken,
        (now, until): (Timestamp, Timestamp),
    ) -> bool {
        match self.slot(id) {
            Some(Slot { state: State::Leased { token: current, until: end }, .. })
                if *current == token && *end > now =>
            {
                *end = until;
                true
            }
            _ => false,
        }
    }

    /// The message that somebody has by `token`.
    pub(super) fn leased(&mut self, id: MessageId, token: LeaseToken) -> Option<Letter> {
        let slot = self.slot(id)?;
        let current = matches!(slot.state, State::Leased { token: of, .. } if of == token);
        slot.letter.clone().filter(|_| current)
    }

    /// What somebody has for longer than was agreed. They are told of once more only after
    /// `again_at`.
    pub(super) fn overdue(
        &mut self,
        now: Timestamp,
        again_at: Timestamp,
    ) -> Vec<(Letter, LeaseToken)> {
        let mut overdue = Vec::new();
        for slot in self.again.values_mut().chain(self.window.values_mut()) {
            if let (State::Leased { token, until }, Some(letter)) = (&mut slot.state, &slot.letter)
                && *until <= now
            {
                overdue.push((letter.clone(), *token));
                *until = again_at;
            }
        }
        overdue
    }

    /// The lease `token` of `id` has failed; it may be tried again then.
    pub(super) fn failed(&mut self, id: MessageId, token: LeaseToken, not_before: Timestamp) {
        if let Some(slot) = self.slot(id)
            && matches!(slot.state, State::Leased { token: of, .. } if of == token)
        {
            slot.state = State::Free { not_before };
        }
    }

    /// `id` is done or dead.
    pub(super) fn resolve(&mut self, id: MessageId) {
        let Some(letter) = self.slot(id).and_then(|slot| {
            slot.state = State::Resolved;
            slot.letter.take()
        }) else {
            return;
        };
        self.again.remove(&id);
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

    /// Begins a move of the group: nothing is handed out until the desk is made anew, or it ends.
    pub(super) fn set_moving(&mut self, moving: bool) {
        self.moving = moving;
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Messages at hand that are not resolved, and those that somebody has.
    pub(super) fn counts(&self) -> (usize, usize) {
        let slots = || self.again.values().chain(self.window.values());
        let open = slots().filter(|slot| slot.letter.is_some()).count();
        let leased = slots().filter(|slot| matches!(slot.state, State::Leased { .. })).count();
        (open, leased)
    }

    fn slot(&mut self, id: MessageId) -> Option<&mut Slot> {
        let again = self.again.get_mut(&id);
        again.or_else(|| self.window.get_mut(&id))
    }
}

#[cfg(test)]
mod tests {
    use tidegate_machines::Payload;

    use super::*;

    const NOW: Timestamp = Timestamp(100);

    fn letter(position: u64, key: &str, bytes: usize) -> Letter {
        Letter {
            id: MessageId::after(position),
            at: Timestamp(0),
            number: None,
            key: MessageKey::new(key).ok(),
            payload: Payload::of_own(vec![0; bytes]),
        }
    }

    fn empty() -> GroupView {
        GroupView {
            born: 1,
            moved: 1,
            cursor: MessageId::after(0),
            read_to: MessageId::after(0),
            pending: Vec::new(),
            resolved: Vec::new(),
            again: Vec::new(),
            dead: 0,
            done: 0,
            paused: false,
        }
    }

    /// The positions of what is offered.
    fn offer(desk: &mut Desk, max: usize) -> Vec<u64> {
        let offer = desk.offer(max, NOW);
        offer.map_or(Vec::new(), |offer| offer.letters.iter().map(|l| l.id.position).collect())
    }

    #[test]
    fn the_first_of_each_key_is_offered_once() {
        let mut desk = Desk::new(empty());
        for (position, key) in [(1, "a"), (2, "a"), (3, "b"), (4, ""), (5, "")] {
            desk.read(letter(position, key, 1));
        }
        let first = desk.offer(2, NOW).unwrap();
        assert_eq!(first.read, [1, 2, 3].map(MessageId::after), "all up to the last, in order");
        assert_eq!(offer(&mut desk, 9), [4, 5], "those without a key wait for nobody");
        desk.known(MessageId::after(5));
        assert_eq!(
            desk.lease(MessageId::after(1), LeaseToken(1), Timestamp(200)).unwrap().id.position,
            1
        );
        desk.withdraw(MessageId::after(3));
        assert_eq!(offer(&mut desk, 9), [3]);
        desk.resolve(MessageId::after(1));
        assert_eq!(offer(&mut desk, 9), [2]);
        assert_eq!(desk.counts(), (4, 0));
    }

    #[test]
    fn leases_end_and_failed_ones_wait() {
        let mut desk = Desk::new(empty());
        desk.read(letter(1, "a", 1));
        assert_eq!(offer(&mut desk, 1), [1]);
        let (id, until) = (MessageId::after(1), Timestamp(150));
        desk.lease(id, LeaseToken(1), until);
        assert!(!desk.extend(id, LeaseToken(2), (NOW, until)), "another attempt");
        assert!(desk.extend(id, LeaseToken(1), (NOW, Timestamp(160))));
        assert!(!desk.extend(id, LeaseToken(1), (Timestamp(160), Timestamp(170))), "it is over");
        assert!(desk.overdue(until, Timestamp(200)).is_empty());
        assert_eq!(desk.overdue(Timestamp(160), Timestamp(200)).len(), 1);
        assert!(desk.overdue(Timestamp(161), Timestamp(200)).is_empty(), "told of once");
        desk.failed(id, LeaseToken(1), Timestamp(101));
        assert!(offer(&mut desk, 1).is_empty(), "not before its time");
        desk.failed(id, LeaseToken(1), NOW);
        assert!(offer(&mut desk, 1).is_empty(), "only once");
    }

    #[test]
    fn a_dead_letter_comes_again_once_and_beside_none_of_its_key() {
        let mut desk = Desk::new(empty());
        desk.read(letter(2, "a", 1));
        assert_eq!(offer(&mut desk, 1), [2]);
        desk.lease(MessageId::after(2), LeaseToken(1), Timestamp(200));
        desk.add_again(letter(1, "a", 1), NOW);
        assert!(offer(&mut desk, 9).is_empty(), "2 is in hands");
        desk.resolve(MessageId::after(2));
        assert_eq!(offer(&mut desk, 9), [1]);
        desk.lease(MessageId::after(1), LeaseToken(1), Timestamp(200));
        desk.add_again(letter(1, "a", 1), NOW);
        assert!(offer(&mut desk, 9).is_empty(), "it is in hands already");
        desk.resolve(MessageId::after(1));
        assert_eq!(desk.bytes, 0);
    }

    #[test]
    fn room_is_made_by_what_the_machine_knows() {
        let mut desk = Desk::new(empty());
        for position in 1..=bounds::WINDOW_MAX as u64 {
            assert!(desk.has_room());
            desk.read(letter(position, "", 1));
        }
        assert!(!desk.has_room());
        assert_eq!(desk.can_pass(1), None, "not before all is resolved");
        desk.resolve(MessageId::after(1));
        assert!(!desk.has_room(), "the machine does not know that it was read");
        desk.known(MessageId::after(1));
        assert!(desk.has_room());
        let mut desk = Desk::new(empty());
        desk.read(letter(1, "", AT_HAND_BYTES_MAX));
        assert!(!desk.has_room());
    }

    #[test]
    fn a_desk_made_anew_knows_what_was_resolved_and_what_waits() {
        let pending = |position, not_before| Pending {
            id: MessageId::after(position),
            attempts: 1,
            token: None,
            not_before: Timestamp(not_before),
        };
        let mut desk = Desk::new(GroupView {
            read_to: MessageId::after(3),
            pending: vec![pending(1, 101), pending(3, 0)],
            resolved: vec![MessageId::after(2)],
            again: vec![(pending(0, 0), letter(0, "a", 1))],
            ..empty()
        });
        assert_eq!(desk.can_pass(0), None, "what waits was not read again yet");
        (1..=4).for_each(|position| desk.read(letter(position, "a", 1)));
        assert_eq!(offer(&mut desk, 9), [0], "first what is tried again");
        desk.resolve(MessageId::after(0));
        assert!(offer(&mut desk, 9).is_empty(), "the first of its key has to wait");
        assert_eq!(desk.offer(9, Timestamp(101)).unwrap().letters[0].id.position, 1);
        desk.resolve(MessageId::after(1));
        let last = desk.offer(9, NOW).unwrap();
        assert_eq!((last.letters[0].id.position, last.read.len()), (3, 0), "2 was resolved");
        desk.resolve(MessageId::after(3));
        let new = desk.offer(9, NOW).unwrap();
        assert_eq!((new.after.position, new.read.len()), (3, 1));
        desk.set_moving(true);
        desk.withdraw(MessageId::after(4));
        assert!(offer(&mut desk, 9).is_empty());
    }
}
