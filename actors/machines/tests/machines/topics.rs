//! Topics by themselves: what is published once, when, and how much may wait. Consumer groups are
//! in `consumers`.

use tidegate_machines::{
    bounds::{DELAYED_MAX, DUE_PER_EVENT_MAX},
    invariants::check_topics,
    *,
};

/// Decides and applies; also by a copy that is written and read in between.
pub(crate) fn run<M>(
    machine: &mut M,
    command: &M::Command,
    now: u64,
) -> Result<Decision<M>, M::Rejection>
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
    // A run that is due when the schedule is replaced is not lost, and comes with what is new.
    let message = NewMessage { key: None, payload: Payload::new(*b"y").unwrap() };
    let other = NewSchedule { message: message.clone(), ..new.clone() };
    run(&mut topics, &TopicsCommand::Schedule(other), 601_500).unwrap();
    let ran = run(&mut topics, &TopicsCommand::Tick, 601_500).unwrap().event.unwrap();
    assert!(ran.published().map(|one| &one.payload).eq([&message.payload]));
    assert!(topics.due(Timestamp(660_999)).is_none() && topics.due(Timestamp(661_000)).is_some());
    run(&mut topics, &TopicsCommand::Unschedule { topic, name }, 661_000).unwrap();
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
