//! Consumer groups by themselves: single rules, and a group under random consumers that come late,
//! fail, crash, are moved and try again. No journal: messages have the ids that the test gives.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_machines::{
    bounds::{DEAD_LETTERS_MAX, FOLLOW_UPS_MAX, FOLLOW_UPS_OPEN_MAX},
    invariants::check_consumers,
    *,
};

use crate::topics::run;

const RETRY: Retry = Retry { attempts_max: 3, backoff_ms: 0, backoff_ms_max: 0 };

#[derive(Clone, Debug)]
enum Step {
    Take { first: usize, count: usize },
    Resolve { which: usize, fails: bool, late: bool },
    Crash,
    Replay { which: usize },
    Discard { which: usize },
    Pass,
}

fn steps() -> impl Strategy<Value = Step> {
    let index = any::<usize>;
    prop_oneof![
        6 => (0..6_usize, 1..4_usize).prop_map(|(first, count)| Step::Take { first, count }),
        8 => (index(), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(which, fails, late)| Step::Resolve { which, fails, late }),
        1 => Just(Step::Crash),
        1 => index().prop_map(|which| Step::Replay { which }),
        1 => index().prop_map(|which| Step::Discard { which }),
        1 => Just(Step::Pass),
    ]
}

/// The number of the group's incarnation.
fn open(consumers: &mut Consumers, of: &GroupId) -> u64 {
    let open = ConsumersCommand::Open { of: of.clone(), after: Some(MessageId::default()) };
    match run(consumers, &open, 0).unwrap().answer {
        Answer::Now(ConsumersReply::View(view)) => view.born,
        other => panic!("{other:?}"),
    }
}

/// A group with consumers that remember what they have.
struct World {
    consumers: Consumers,
    of: Incarnation,
    messages: Vec<Letter>,
    held: BTreeMap<MessageId, LeaseToken>,
    /// Every token that was ever given.
    given: BTreeSet<LeaseToken>,
    done: BTreeSet<MessageId>,
    discarded: BTreeSet<MessageId>,
}

impl World {
    fn new(messages: u64) -> Self {
        let of =
            GroupId { topic: TopicName::new("t").unwrap(), group: GroupName::new("g").unwrap() };
        let letter = |position| Letter {
            id: MessageId {
                position: 3 * position / 2,
                within: Some(1).filter(|_| position % 2 > 0),
            },
            at: Timestamp(0),
            number: Some(position),
            key: None,
            payload: Payload::new(*b"x").unwrap(),
        };
        let mut consumers = Consumers::new(ConsumersConfig { shard: 0, idle_ms_max: 1_000 });
        let of = Incarnation { born: open(&mut consumers, &of), of };
        let messages = (1..=messages).map(letter).collect();
        let (held, given, done, discarded) = Default::default();
        Self { consumers, of, messages, held, given, done, discarded }
    }

    fn view(&self) -> GroupView {
        self.consumers.group(&self.of.of).unwrap().view()
    }

    fn dead(&self) -> Vec<MessageId> {
        let group = self.consumers.group(&self.of.of).unwrap();
        group.dead_after(MessageId::default()).map(|dead| dead.letter.id).collect()
    }

    /// What nobody has and is not resolved, those to be tried again first.
    fn free(&self) -> Vec<Letter> {
        let view = self.view();
        let mut free: Vec<_> = view.again.iter().map(|(_, letter)| letter.clone()).collect();
        let pending: BTreeSet<_> = view.pending.iter().map(|pending| pending.id).collect();
        let to_come = |id: MessageId| id > view.read_to || pending.contains(&id);
        free.extend(self.messages.iter().filter(|letter| to_come(letter.id)).cloned());
        free.retain(|letter| !self.held.contains_key(&letter.id));
        free
    }

    fn take(&mut self, first: usize, count: usize) {
        let letters: Vec<_> = self.free().into_iter().skip(first).take(count).collect();
        let Some(last) = letters.last() else { return };
        // Sometimes from an older place than it must be.
        let view = self.view();
        let after = if first > 2 { view.cursor } else { view.read_to };
        let read = self.messages.iter().map(|letter| letter.id);
        let read = read.filter(|id| *id > after && *id <= last.id).collect();
        let (of, retry) = (self.of.clone(), RETRY);
        let take = Take { of, after, read, letters, retry };
        let taken = run(&mut self.consumers, &ConsumersCommand::Take(take), 1).unwrap();
        let Answer::Now(ConsumersReply::Taken { taken, .. }) = taken.answer else { panic!() };
        for Attempt { id, number, token } in taken {
            assert!(!self.done.contains(&id), "{id} was done and is handed out again");
            assert!(number <= RETRY.attempts_max);
            assert!(self.given.insert(token), "{token} is given twice");
            self.held.insert(id, token);
        }
    }

    fn resolve(&mut self, which: usize, fails: bool, late: bool) {
        if self.held.is_empty() {
            return;
        }
        let (&id, &token) = self.held.iter().nth(which % self.held.len()).unwrap();
        let of = self.of.of.clone();
        if late {
            for &old in self.given.iter().filter(|given| **given != token) {
                let done =
                    ConsumersCommand::Done { of: of.clone(), id, token: old, follow_ups: vec![] };
                let refused = run(&mut self.consumers, &done, 2).map(drop);
                assert_eq!(refused, Err(ConsumersRejection::Late { id, token: old }));
            }
            return;
        }
        self.held.remove(&id);
        let letter = self.messages.iter().find(|letter| letter.id == id).unwrap().clone();
        let command = if fails {
            ConsumersCommand::Fail { of, letter, token, cause: "no".to_owned(), retry: RETRY }
        } else {
            assert!(self.done.insert(id), "{id} is done twice");
            ConsumersCommand::Done { of, id, token, follow_ups: vec![] }
        };
        run(&mut self.consumers, &command, 2).unwrap();
        let again = run(&mut self.consumers, &command, 2).map(drop);
        assert_eq!(again, Err(ConsumersRejection::Late { id, token }));
    }

    fn about_dead(&mut self, which: usize, discard: bool) {
        let dead = self.dead();
        if dead.is_empty() {
            return;
        }
        let (of, id) = (self.of.clone(), dead[which % dead.len()]);
        let command = if discard {
            self.discarded.insert(id);
            ConsumersCommand::Discard { of, id }
        } else {
            ConsumersCommand::Replay { of, id }
        };
        run(&mut self.consumers, &command, 3).unwrap();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Take { first, count } => self.take(first, count),
            Step::Resolve { which, fails, late } => self.resolve(which, fails, late),
            Step::Crash => self.held.clear(),
            Step::Replay { which } => self.about_dead(which, false),
            Step::Discard { which } => self.about_dead(which, true),
            Step::Pass => {
                // Up to right before the next message.
                let read_to = self.view().read_to;
                let next = self.messages.iter().find(|letter| letter.id > read_to);
                let next = next.map_or(9_999, |letter| letter.id.position);
                let (after, to) = (read_to, MessageId::after(next - 1));
                let pass = ConsumersCommand::Pass { of: self.of.clone(), after, to };
                run(&mut self.consumers, &pass, 4).unwrap();
            }
        }
    }

    fn check(&self) {
        check_consumers(&self.consumers).unwrap();
        let view = self.view();
        let mut open: BTreeSet<_> = view.pending.iter().map(|pending| pending.id).collect();
        open.extend(view.again.iter().map(|(pending, _)| pending.id));
        let dead: BTreeSet<_> = self.dead().into_iter().collect();
        for Letter { id, .. } in &self.messages {
            let places = [
                self.done.contains(id),
                dead.contains(id),
                self.discarded.contains(id),
                open.contains(id),
                *id > view.read_to,
            ];
            let count = places.iter().filter(|there| **there).count();
            assert_eq!(count, 1, "{id}: done, dead, discarded, open, to come: {places:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_message_is_done_dead_or_still_to_come(
        steps in proptest::collection::vec(steps(), 1..80),
    ) {
        let mut world = World::new(12);
        let mut cursor = MessageId::default();
        for step in &steps {
            world.step(step);
            world.check();
            assert!(world.view().cursor >= cursor, "the cursor went back");
            cursor = world.view().cursor;
        }
        // In the end a consumer that fails nothing does all that is left.
        world.held.clear();
        while !world.free().is_empty() {
            world.take(0, 4);
            while !world.held.is_empty() {
                world.resolve(0, false, false);
            }
        }
        world.check();
        let view = world.view();
        assert!(view.pending.is_empty() && view.again.is_empty());
        assert_eq!(view.cursor, view.read_to);
        assert_eq!(world.done.len() + world.dead().len() + world.discarded.len(), 12);
    }
}

#[test]
fn a_group_that_moves_back_gets_everything_again_and_nothing_is_left_out() {
    let mut world = World::new(6);
    for _ in 0..3 {
        world.take(0, 4);
        for _ in 0..4 {
            world.resolve(0, true, false);
        }
    }
    assert_eq!(world.dead().len(), 4);
    let dead = world.dead()[0];
    let of = world.of.clone();
    let seek = ConsumersCommand::Seek { of: of.clone(), to: MessageId::default() };
    run(&mut world.consumers, &seek, 5).unwrap();
    let replay = ConsumersCommand::Replay { of: of.clone(), id: dead };
    let refused = run(&mut world.consumers, &replay, 5).map(drop);
    assert_eq!(refused, Err(ConsumersRejection::StillToCome { id: dead }));
    let gap = Take {
        of,
        after: world.messages[1].id,
        read: vec![world.messages[2].id],
        letters: vec![world.messages[2].clone()],
        retry: RETRY,
    };
    let refused = run(&mut world.consumers, &ConsumersCommand::Take(gap), 5).map(drop);
    assert_eq!(refused, Err(ConsumersRejection::Moved), "two messages would be left out");
    assert_eq!(world.free().len(), 6);
    assert_eq!(world.consumers.consumed(Timestamp(5)), Some(0));
    assert_eq!(world.consumers.consumed(Timestamp(9_999)), None, "nothing happens there");
}

#[test]
fn no_lease_and_no_handle_outlives_a_move_a_replay_or_a_removal() {
    let mut world = World::new(6);
    world.take(0, 2);
    let old: Vec<_> = world.held.clone().into_iter().collect();
    let of = world.of.of.clone();
    let late = |world: &mut World, (id, token): (MessageId, LeaseToken)| {
        let done = ConsumersCommand::Done { of: of.clone(), id, token, follow_ups: vec![] };
        let refused = run(&mut world.consumers, &done, 5).map(drop);
        assert_eq!(refused, Err(ConsumersRejection::Late { id, token }));
    };
    let moved = world.view().moved;
    let seek = ConsumersCommand::Seek { of: world.of.clone(), to: MessageId::default() };
    run(&mut world.consumers, &seek, 5).unwrap();
    assert!(world.view().moved > moved && world.view().born == world.of.born);
    old.iter().for_each(|lease| late(&mut world, *lease));
    world.held.clear();
    world.take(0, 2);
    let attempts = world.view().pending.iter().map(|one| one.attempts).collect::<Vec<_>>();
    assert_eq!(attempts, [1, 1], "the count begins anew, the tokens do not");
    old.iter().for_each(|lease| late(&mut world, *lease));

    let before = world.of.clone();
    let held: Vec<_> = world.held.clone().into_iter().collect();
    let remove = ConsumersCommand::Remove { of: before.clone() };
    run(&mut world.consumers, &remove, 6).unwrap();
    world.of.born = open(&mut world.consumers, &of);
    world.held.clear();
    world.take(0, 2);
    old.iter().chain(&held).for_each(|lease| late(&mut world, *lease));
    let (group, to, id) = (before, MessageId::after(3), MessageId::after(1));
    let of = || group.clone();
    for command in [
        ConsumersCommand::Seek { of: of(), to },
        ConsumersCommand::Pass { of: of(), after: MessageId::default(), to },
        ConsumersCommand::Pause { of: of(), paused: true },
        ConsumersCommand::Replay { of: of(), id },
        ConsumersCommand::Discard { of: of(), id },
        ConsumersCommand::View { of: of() },
        ConsumersCommand::Remove { of: of() },
    ] {
        let refused = run(&mut world.consumers, &command, 7).map(drop);
        let unknown = ConsumersRejection::UnknownGroup { of: group.of.clone() };
        assert_eq!(refused, Err(unknown), "{command:?}");
    }
}

#[test]
fn a_note_of_nothing_joins_on_or_is_refused() {
    let mut world = World::new(6);
    let pass = |world: &mut World, after, to| {
        let (after, to) = (MessageId::after(after), MessageId::after(to));
        run(&mut world.consumers, &ConsumersCommand::Pass { of: world.of.clone(), after, to }, 1)
    };
    assert_eq!(pass(&mut world, 5, 9).map(drop), Err(ConsumersRejection::Moved));
    pass(&mut world, 0, 5).unwrap();
    pass(&mut world, 5, 9).unwrap();
    assert!(pass(&mut world, 0, 5).unwrap().event.is_none(), "it is known");
    assert_eq!(world.view().cursor, MessageId::after(9));
    let seek = ConsumersCommand::Seek { of: world.of.clone(), to: MessageId::default() };
    run(&mut world.consumers, &seek, 5).unwrap();
    assert_eq!(pass(&mut world, 5, 9).map(drop), Err(ConsumersRejection::Moved));
}

#[test]
fn what_can_not_be_given_up_stays_and_others_may_be_had() {
    let mut world = World::new(4);
    for number in 0..DEAD_LETTERS_MAX as u64 {
        let id = MessageId::after(1_000 + number);
        let letter = Letter { id, ..world.messages[0].clone() };
        let dead = DeadLetter { letter, attempts: 3, cause: String::new(), died_at: Timestamp(0) };
        world.consumers.apply(&ConsumersEvent::Died { of: world.of.of.clone(), dead });
    }
    let Letter { id, .. } = world.free()[0];
    for _ in 0..3 {
        // Its process ends each time.
        world.take(0, 1);
        world.held.clear();
    }
    let (after, letters) = (world.view().read_to, world.free());
    let read = letters.iter().map(|letter| letter.id).filter(|id| *id > after).collect();
    let take = Take { of: world.of.clone(), after, read, letters, retry: RETRY };
    let taken = run(&mut world.consumers, &ConsumersCommand::Take(take), 9).unwrap().answer;
    let Answer::Now(ConsumersReply::Taken { taken, died, kept }) = taken else { panic!() };
    assert_eq!((taken.len(), died.len(), kept), (3, 0, vec![id]));
    world.about_dead(0, true);
    let (after, letters) = (world.view().read_to, vec![world.free()[0].clone()]);
    let take = Take { of: world.of.clone(), after, read: vec![], letters, retry: RETRY };
    run(&mut world.consumers, &ConsumersCommand::Take(take), 9).unwrap();
    assert!(world.dead().contains(&id));
}

#[test]
fn effects_that_wait_are_bounded() {
    let mut world = World::new(2);
    let cancel = FollowUp::Cancel { order: OrderId::new(0, 1).unwrap() };
    for _ in 1..FOLLOW_UPS_OPEN_MAX / FOLLOW_UPS_MAX {
        let (of, id) = (world.of.of.clone(), MessageId::default());
        let follow_ups = vec![cancel.clone(); FOLLOW_UPS_MAX];
        world.consumers.apply(&ConsumersEvent::Done { at: Timestamp(0), of, id, follow_ups });
    }
    let acknowledge = |world: &mut World| {
        if world.held.is_empty() {
            world.take(0, 1);
        }
        let (of, follow_ups) = (world.of.of.clone(), vec![cancel.clone(); FOLLOW_UPS_MAX]);
        let (id, token) = world.held.pop_first().unwrap();
        let done = ConsumersCommand::Done { of, id, token, follow_ups };
        let result = world.consumers.decide(&done, Timestamp(1)).map(|decision| {
            world.consumers.apply(&decision.event.unwrap());
        });
        if result.is_err() {
            world.held.insert(id, token);
        }
        result
    };
    acknowledge(&mut world).unwrap();
    assert_eq!(acknowledge(&mut world), Err(ConsumersRejection::FollowUpsFull));
    let (id, token) = world.held.pop_first().unwrap();
    let plain =
        ConsumersCommand::Done { of: world.of.of.clone(), id, token, follow_ups: Vec::new() };
    assert!(world.consumers.decide(&plain, Timestamp(1)).is_ok(), "only effects are refused");
    world.held.insert(id, token);
    for op in 1..=FOLLOW_UPS_MAX as u64 {
        let answered = ConsumersCommand::Answered { op: OpId(op) };
        let event = world.consumers.decide(&answered, Timestamp(2)).unwrap().event;
        world.consumers.apply(&event.unwrap());
    }
    acknowledge(&mut world).unwrap();
}
