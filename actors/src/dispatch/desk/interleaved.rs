//! A desk and the machine in any order of events: commands that wait, answers that come late or to
//! nobody, changes of the group in between, and handles of a group that was removed. The glue
//! between the two is the test's own, in the order of the dispatcher's. No time passes but the
//! test's.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use tidegate_machines::{
    Answer, Attempt, Consumers, ConsumersCommand as Command, ConsumersConfig,
    ConsumersRejection as Rejection, ConsumersReply as Reply, GroupId, GroupName, Incarnation,
    Machine, Payload, Retry, Take, TopicName, invariants::check_consumers,
};

use super::*;

const RETRY: Retry = Retry { attempts_max: 3, backoff_ms: 0, backoff_ms_max: 0 };
const MESSAGES: u64 = 12;
const LEASE_MS: u64 = 30;

/// Who waits for an answer.
#[derive(Clone, Debug)]
enum Asker {
    Nobody,
    /// It must be refused.
    Useless,
    Take {
        moved: u64,
        born: u64,
        ids: Vec<MessageId>,
        known_to: Option<MessageId>,
    },
    Outcome {
        born: u64,
        id: MessageId,
        token: LeaseToken,
        taken_back: bool,
    },
    Pass {
        moved: u64,
        to: MessageId,
    },
    Change,
    View {
        newest: LeaseToken,
    },
    Open,
}

struct World {
    luck: u64,
    now: u64,
    machine: Consumers,
    group: Incarnation,
    desk: Desk,
    sent: VecDeque<(Command, Asker)>,
    answers: Vec<(Asker, Result<Reply, Rejection>)>,
    changing: bool,
    in_doubt: bool,
    /// Everything that was ever handed out, until its holder has said something; and until when it
    /// is surely nobody else's.
    hands: Vec<(Letter, LeaseToken, u64, Timestamp)>,
    /// The model: whose outcome counts.
    current: BTreeMap<MessageId, LeaseToken>,
    newest: LeaseToken,
}

impl World {
    fn new(seed: u64) -> Self {
        let of =
            GroupId { topic: TopicName::new("t").unwrap(), group: GroupName::new("g").unwrap() };
        let mut machine = Consumers::new(ConsumersConfig { shard: 0, idle_ms_max: 1_000 });
        let open = Command::Open { of: of.clone(), after: Some(MessageId::default()) };
        let decision = machine.decide(&open, Timestamp(0)).unwrap();
        machine.apply(&decision.event.unwrap());
        let view = machine.group(&of).unwrap().view();
        Self {
            luck: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 0,
            machine,
            group: Incarnation { of, born: view.born },
            desk: Desk::new(view),
            sent: VecDeque::new(),
            answers: Vec::new(),
            changing: false,
            in_doubt: false,
            hands: Vec::new(),
            current: BTreeMap::new(),
            newest: LeaseToken(0),
        }
    }

    /// Less than `below`.
    fn below(&mut self, below: usize) -> usize {
        self.luck ^= self.luck << 13;
        self.luck ^= self.luck >> 7;
        self.luck ^= self.luck << 17;
        (self.luck >> 33) as usize % below
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn send(&mut self, command: Command, asker: Asker) {
        self.sent.push_back((command, asker));
    }

    /// The machine takes its next command.
    fn process(&mut self) {
        let Some((command, asker)) = self.sent.pop_front() else { return };
        let cursor = |machine: &Consumers| {
            machine
                .group(&self.group.of)
                .map(|group| group.view())
                .map(|view| (view.moved, view.cursor))
        };
        let before = cursor(&self.machine);
        let result = self.machine.decide(&command, Timestamp(self.now)).map(|decision| {
            decision.event.iter().for_each(|event| self.machine.apply(event));
            match decision.answer {
                Answer::Now(reply) => reply,
                other => panic!("{other:?}"),
            }
        });
        check_consumers(&self.machine).unwrap();
        if let (Some((moved, before)), Some((now_moved, now))) = (before, cursor(&self.machine)) {
            assert!(now >= before || now_moved > moved, "the cursor went back: {command:?}");
        }
        self.compare(&command, &result);
        self.answers.push((asker, result));
    }

    fn compare(&mut self, command: &Command, result: &Result<Reply, Rejection>) {
        match (command, result) {
            (Command::Take(take), Ok(Reply::Taken { taken, died, .. })) => {
                assert_eq!(take.of.born, self.machine.group(&take.of.of).unwrap().view().born);
                for Attempt { id, token, .. } in taken {
                    assert!(*token > self.newest, "a token comes again");
                    self.newest = *token;
                    self.current.insert(*id, *token);
                }
                self.current.retain(|id, _| !died.iter().any(|dead| dead.letter.id == *id));
            }
            (Command::Done { id, token, .. }, result) => self.outcome(*id, *token, result),
            (Command::Fail { letter, token, .. }, result) => {
                self.outcome(letter.id, *token, result);
            }
            (Command::Seek { .. } | Command::Remove { .. }, Ok(_)) => self.current.clear(),
            _ => {}
        }
    }

    fn outcome(&mut self, id: MessageId, token: LeaseToken, result: &Result<Reply, Rejection>) {
        let counts = self.current.get(&id) == Some(&token);
        assert_eq!(result.is_ok(), counts, "{id} by {token}: {result:?}");
        if counts {
            self.current.remove(&id);
        }
    }

    /// Who has kept a handle of a group that was removed can do nothing.
    fn use_old_handle(&mut self) {
        let of =
            Incarnation { born: self.below(self.group.born as usize) as u64, ..self.group.clone() };
        let to = MessageId::after(self.below(20) as u64);
        let command = match self.below(5) {
            0 => Command::Seek { of, to },
            1 => Command::Pass { of, after: MessageId::default(), to },
            2 => Command::Pause { of, paused: true },
            3 => Command::Remove { of },
            _ => {
                let (after, read, letters) = (MessageId::default(), vec![to], Vec::new());
                Command::Take(Take { of, after, read, letters, retry: RETRY })
            }
        };
        self.send(command, Asker::Useless);
    }

    /// Somebody hears an answer, not always who waited longest.
    fn deliver(&mut self) {
        if self.answers.is_empty() {
            return;
        }
        // Some stay behind for long.
        let last = self.answers.len() - 1;
        let which = if self.chance(4) { self.below(last + 1) } else { last };
        let (asker, result) = self.answers.remove(which);
        match asker {
            Asker::Nobody => {}
            Asker::Useless => {
                assert!(matches!(result, Err(Rejection::UnknownGroup { .. })), "{result:?}");
            }
            Asker::Take { moved, born, ids, known_to } if born == self.group.born => {
                self.taken(moved, known_to, result);
                if self.desk.moved() == moved {
                    ids.iter().for_each(|id| self.desk.withdraw(*id, Timestamp(0)));
                }
            }
            Asker::Outcome { born, id, token, taken_back } if born == self.group.born => {
                match result {
                    Ok(Reply::Failed(at)) => self.desk.failed(id, token, at),
                    Ok(_) => self.in_doubt |= !self.desk.resolve(id, token),
                    Err(_) => self.in_doubt |= taken_back,
                }
            }
            Asker::Take { .. } | Asker::Outcome { .. } => {}
            Asker::Pass { moved, to } if result.is_ok() && self.desk.moved() == moved => {
                self.desk.known(to);
            }
            Asker::Pass { .. } => {}
            Asker::Change if result.is_ok() => self.ask_view(),
            Asker::Change => {
                self.changing = false;
                self.desk.set_changing(false);
            }
            Asker::View { newest } => {
                let Ok(Reply::View(view)) = result else { panic!("{result:?}") };
                if view.moved == self.desk.moved() {
                    self.desk.agree(*view, newest);
                } else {
                    self.desk = Desk::new(*view);
                }
                self.changing = false;
            }
            Asker::Open => {
                let Ok(Reply::View(view)) = result else { panic!("{result:?}") };
                assert!(view.born > self.group.born);
                self.group.born = view.born;
                self.desk = Desk::new(*view);
                (self.changing, self.in_doubt) = (false, false);
            }
        }
    }

    fn taken(&mut self, moved: u64, known_to: Option<MessageId>, result: Result<Reply, Rejection>) {
        let (taken, died) = match result {
            Ok(Reply::Taken { taken, died, .. }) => (taken, died),
            Err(_) => return self.in_doubt = true,
            Ok(other) => panic!("{other:?}"),
        };
        self.in_doubt |= !died.is_empty();
        if self.desk.moved() != moved {
            return;
        }
        known_to.into_iter().for_each(|to| self.desk.known(to));
        let until = Timestamp(self.now + LEASE_MS);
        for Attempt { id, token, .. } in taken {
            let Some(letter) = self.desk.lease(id, token, until) else { continue };
            let beside = self
                .hands
                .iter()
                .filter(|(_, _, of, until)| *of == moved && *until > Timestamp(self.now));
            for (other, ..) in beside {
                assert!(letter.key.is_none() || other.key != letter.key, "two of one key");
            }
            self.hands.push((letter, token, moved, until));
        }
    }

    fn ask_view(&mut self) {
        self.in_doubt = false;
        let newest = self.desk.newest();
        self.send(Command::View { of: self.group.clone() }, Asker::View { newest });
    }

    fn read(&mut self) {
        let next = self.desk.heard_to.position + 1;
        if next <= MESSAGES && self.desk.has_room() {
            let key = ["a", "b", ""][next as usize % 3];
            self.desk.read(Letter {
                id: MessageId::after(next),
                at: Timestamp(0),
                number: None,
                key: MessageKey::new(key).ok(),
                payload: Payload::of_own(vec![0]),
            });
        }
        if let Some((after, to)) = self.desk.can_pass(1) {
            let asker = Asker::Pass { moved: self.desk.moved(), to };
            self.send(Command::Pass { of: self.group.clone(), after, to }, asker);
        }
    }

    fn offer(&mut self) {
        let max = 1 + self.below(4);
        let Some(Offer { after, read, letters }) = self.desk.offer(max, Timestamp(self.now)) else {
            return;
        };
        let ids: Vec<_> = letters.iter().map(|letter| letter.id).collect();
        let (moved, born, known_to) = (self.desk.moved(), self.group.born, read.last().copied());
        let take = Take { of: self.group.clone(), after, read, letters, retry: RETRY };
        let mut asker = Asker::Take { moved, born, ids: ids.clone(), known_to };
        if self.chance(8) {
            // The caller goes away at once.
            asker = Asker::Nobody;
            ids.iter().for_each(|id| self.desk.withdraw(*id, Timestamp(0)));
        }
        self.send(Command::Take(take), asker);
    }

    /// Somebody says what has become of a message, perhaps late, perhaps without waiting.
    fn outcome_of(&mut self, which: usize, fails: bool, waits: bool) {
        let (letter, token, ..) = self.hands.swap_remove(which);
        let (of, id, born) = (self.group.of.clone(), letter.id, self.group.born);
        let asker = Asker::Outcome { born, id, token, taken_back: false };
        let asker = if waits { asker } else { Asker::Nobody };
        if !fails {
            return self.send(Command::Done { of, id, token, follow_ups: vec![] }, asker);
        }
        if self.desk.leased(id, token).is_some() {
            let cause = "no".to_owned();
            self.send(Command::Fail { of, letter, token, cause, retry: RETRY }, asker);
        }
    }

    fn take_back(&mut self) {
        let (now, again_at) = (Timestamp(self.now), Timestamp(self.now + 10));
        for (letter, token) in self.desk.overdue(3, now, again_at) {
            let (of, born, id) = (self.group.of.clone(), self.group.born, letter.id);
            let cause = "late".to_owned();
            let asker = Asker::Outcome { born, id, token, taken_back: true };
            self.send(Command::Fail { of, letter, token, cause, retry: RETRY }, asker);
        }
    }

    fn change(&mut self) {
        if std::mem::replace(&mut self.changing, true) {
            return;
        }
        self.desk.set_changing(true);
        let of = self.group.clone();
        let group = self.machine.group(&of.of);
        let dead = group.and_then(|group| group.dead_after(MessageId::default()).next());
        let dead = dead.map(|dead| dead.letter.id);
        let command = match (self.below(12), dead) {
            (0, _) => {
                self.send(Command::Remove { of: of.clone() }, Asker::Nobody);
                let open = Command::Open { of: of.of, after: Some(MessageId::default()) };
                return self.send(open, Asker::Open);
            }
            (1 | 7..=9, _) => {
                // Mostly back.
                let to = self.below(12) * self.below(2);
                Command::Seek { of, to: MessageId::after(to as u64) }
            }
            (2, _) => Command::Pause { of, paused: true },
            (3..=6, Some(id)) => Command::Replay { of, id },
            _ => Command::Pause { of, paused: false },
        };
        self.send(command, Asker::Change);
    }

    fn settle(&mut self) {
        if self.in_doubt && !std::mem::replace(&mut self.changing, true) {
            self.ask_view();
        }
    }

    fn step(&mut self) {
        match self.below(40) {
            0..6 => self.read(),
            6..12 => self.offer(),
            12..22 => self.process(),
            22..32 => self.deliver(),
            32..36 if !self.hands.is_empty() => {
                let which = self.below(self.hands.len());
                let (fails, waits) = (self.chance(3), !self.chance(4));
                self.outcome_of(which, fails, waits);
            }
            36 => self.take_back(),
            37 => self.now += 5,
            38 => self.change(),
            39 if self.chance(2) => self.use_old_handle(),
            _ => self.settle(),
        }
    }

    /// From now on nobody is late, nothing fails, and all is done that there is.
    fn finish(&mut self) {
        while self.changing {
            self.process();
            self.deliver();
        }
        self.changing = true;
        let of = self.group.clone();
        self.send(Command::Pause { of, paused: false }, Asker::Change);
        for _ in 0..200 {
            while !(self.sent.is_empty() && self.answers.is_empty()) {
                self.process();
                self.deliver();
            }
            self.settle();
            self.read();
            self.offer();
            while !self.hands.is_empty() {
                self.outcome_of(0, false, true);
            }
            self.now += 5;
            self.take_back();
        }
        let view = self.machine.group(&self.group.of).unwrap().view();
        assert!(view.pending.is_empty() && view.again.is_empty(), "{view:?}");
        assert_eq!(view.cursor, MessageId::after(MESSAGES), "it stands still: {view:?}");
        assert_eq!((self.desk.counts(), self.desk.bytes), ((0, 0), 0));
    }
}

#[test]
fn in_any_order_only_the_last_lease_counts_and_nothing_stands_still() {
    for seed in 1..=1_000 {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            (0..400).for_each(|_| world.step());
            world.finish();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
