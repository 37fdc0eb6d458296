//! Topics and consumer groups by themselves: single rules, and a group under random consumers that
//! come late, fail, crash and try again. No journal: messages have the ids that the test gives.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tidegate_machines::{
    bounds::{DELAYED_MAX, DUE_PER_EVENT_MAX},
    invariants::{check_consumers, check_topics},
    *,
};

/// Decides and applies; also by a copy that is written and read in between.
fn run<M>(machine: &mut M, command: &M::Command, now: u64) -> Result<Decision<M>, M::Rejection>
where
    M: Machine + Clone + PartialEq + std::fmt::Debug,
    M: serde::Serialize + serde::de::DeserializeOwned,
    M::Event: serde::Serialize + serde::de::DeserializeOwned,
{
    fn copy<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(value, config).unwrap();
        bincode::serde::decode_from_slice(&bytes, config).unwrap().0
    }
    let decision = machine.decide(command, Timestamp(now))?;
    if let Some(event) = &decision.event {
        let mut read = copy(machine);
        machine.apply(event);
        read.apply(&copy(event));
        assert_eq!(&read, machine, "a replay differs");
    }
    Ok(decision)
}

fn topics() -> Topics {
    Topics::new(TopicsConfig {
        shard: 0,
        idempotency_retention_ms: 1_000,
        idempotency_keys_max: 1_000_000,
    })
}

fn publish(text: &str, key: Option<u128>, delay_ms: u64) -> TopicsCommand {
    let message = NewMessage { key: None, payload: Payload::new(text.as_bytes()).unwrap() };
    let key = key.map(|key| (KeyHash(key), Fingerprint(text.len() as u64)));
    TopicsCommand::Publish(Publish { key, topic: TopicName::new("t").unwrap(), message, delay_ms })
}

fn published(decision: &Decision<Topics>) -> Vec<u64> {
    decision.event.iter().flat_map(|event| event.published()).map(|one| one.number).collect()
}

#[test]
fn a_key_publishes_once() {
    let mut topics = topics();
    let first = run(&mut topics, &publish("a", Some(7), 0), 10).unwrap();
    let again = run(&mut topics, &publish("a", Some(7), 0), 20).unwrap();
    assert_eq!(published(&first), [1]);
    assert!(again.event.is_none() && again.answer == first.answer);
    let refused = run(&mut topics, &publish("other", Some(7), 0), 20).map(drop);
    assert_eq!(refused, Err(TopicsRejection::Idempotency(IdempotencyError::Conflict)));
    assert!(topics.due(Timestamp(2_000)).is_none(), "a second is gathered");
    assert_eq!(topics.due(Timestamp(2_100)), Some(TopicsCommand::Tick));
    run(&mut topics, &TopicsCommand::Tick, 2_100).unwrap();
    let anew = run(&mut topics, &publish("a", Some(7), 0), 2_100).unwrap();
    assert_eq!(published(&anew), [2]);
    let built_in = TopicsCommand::Publish(Publish {
        key: None,
        topic: TopicName::new("events").unwrap(),
        message: NewMessage { key: None, payload: Payload::new(*b"x").unwrap() },
        delay_ms: 0,
    });
    assert_eq!(run(&mut topics, &built_in, 0).map(drop), Err(TopicsRejection::BuiltIn));
}

#[test]
fn delayed_messages_come_in_the_order_of_their_time_and_are_bounded() {
    let mut topics = topics();
    for number in 0..21 {
        run(&mut topics, &publish("x", None, 10_000 - number % 10), 0).unwrap();
    }
    check_topics(&topics).unwrap();
    assert!(topics.due(Timestamp(9_990)).is_none());
    let early = run(&mut topics, &TopicsCommand::Tick, 9_991).unwrap();
    assert_eq!(published(&early), [10, 20]);
    let all = run(&mut topics, &TopicsCommand::Tick, 20_000).unwrap();
    assert_eq!(published(&all).len(), 19);
    assert_eq!(topics.delayed(), 0);
    for _ in 0..DELAYED_MAX {
        let event = topics.decide(&publish("x", None, 1), Timestamp(20_000)).unwrap().event;
        topics.apply(&event.unwrap());
    }
    let full = run(&mut topics, &publish("x", None, 1), 20_000).map(drop);
    assert_eq!(full, Err(TopicsRejection::DelayedFull));
    let some = topics.decide(&TopicsCommand::Tick, Timestamp(30_000)).unwrap();
    assert_eq!(published(&some).len(), DUE_PER_EVENT_MAX);
    check_topics(&topics).unwrap();
}

#[test]
fn a_schedule_runs_at_its_time_and_makes_up_once() {
    let mut topics = topics();
    let (topic, name) = (TopicName::new("t").unwrap(), ScheduleName::new("s").unwrap());
    let message = NewMessage { key: None, payload: Payload::new(*b"x").unwrap() };
    let (every_ms, phase_ms) = (60_000, 1_000);
    let new = NewSchedule { topic: topic.clone(), name: name.clone(), message, every_ms, phase_ms };
    run(&mut topics, &TopicsCommand::Schedule(new.clone()), 5_000).unwrap();
    let again = run(&mut topics, &TopicsCommand::Schedule(new.clone()), 6_000).unwrap();
    assert!(again.event.is_none());
    assert!(topics.due(Timestamp(60_999)).is_none());
    for (now, runs) in [(61_000, 1), (61_001, 0), (500_000, 1), (540_999, 0), (541_000, 1)] {
        assert_eq!(topics.due(Timestamp(now)).is_some(), runs > 0, "at {now}");
        let ran = run(&mut topics, &TopicsCommand::Tick, now).unwrap();
        assert_eq!(published(&ran).len(), runs, "at {now}");
    }
    run(&mut topics, &TopicsCommand::Unschedule { topic, name }, 541_000).unwrap();
    assert!(topics.due(Timestamp(u64::MAX / 2)).is_none());
    let too_often = NewSchedule { every_ms: 999, ..new };
    assert!(run(&mut topics, &TopicsCommand::Schedule(too_often), 0).is_err());
}

#[test]
fn what_a_consumer_wants_published_is_published_once() {
    let mut topics = topics();
    let op = |op, acked_below| TopicsCommand::Op {
        from: 3,
        op: OpId(op),
        acked_below: OpId(acked_below),
        topic: TopicName::new("t").unwrap(),
        message: NewMessage { key: None, payload: Payload::new(*b"x").unwrap() },
    };
    for (command, numbers) in [(op(1, 1), &[1][..]), (op(1, 1), &[]), (op(2, 2), &[2])] {
        let decision = run(&mut topics, &command, 0).unwrap();
        assert_eq!(published(&decision), numbers);
        assert_eq!(decision.effects.len(), 1);
    }
    assert_eq!(topics.outstanding(), [TopicsEffect::Published { to: 3, op: OpId(2) }]);
    assert!(run(&mut topics, &op(1, 1), 0).unwrap().effects.is_empty(), "long answered");
}

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
    let open = ConsumersCommand::Open { of: of.clone(), after: MessageId::default() };
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
