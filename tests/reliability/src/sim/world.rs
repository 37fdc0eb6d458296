//! One simulation: a store, callers, faults and time, moved on by one step after the other, each
//! drawn from the seed. What is right is the auditor's word.

use std::{
    hash::Hasher,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use quanta::Mock;
use siphasher::sip::SipHasher13;
use tidegate_machines::OrderCommand;
use tidegate_storage::{MemoryJournal, MemoryState};

use super::{
    auditor::{Auditor, Verdict},
    callers::{Callers, Known},
    figures::Figures,
    ops::{Answer, Command, Good, Op, Sending},
    profile::Profile,
    store::{Store, Wall},
};
use crate::random::Random;

/// The time at which every simulation begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// Sendings without an answer above which callers wait.
const SENDINGS_MAX: usize = 64;

/// How a simulation has ended.
pub(super) struct Ended {
    pub(super) seed: u64,
    /// Of everything that has happened.
    pub(super) hash: u64,
    pub(super) figures: Figures,
    /// What was not right.
    pub(super) wrong: Option<String>,
}

/// See the module.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) profile: Profile,
    pub(super) store: Store,
    pub(super) wall: Wall,
    pub(super) since_start: Arc<Mock>,
    pub(super) callers: Callers,
    pub(super) auditor: Auditor,
    pub(super) ops: Vec<Op>,
    pub(super) sendings: Vec<Sending>,
    pub(super) step: u64,
    pub(super) day: u32,
    pub(super) figures: Figures,
    /// A fault waits to happen, so the store must be opened again before it can rest.
    pub(super) armed: bool,
    /// How far the wall clock has been moved ahead today by jumps.
    pub(super) jumped_ms: u64,
    /// Where the operations of this day begin.
    pub(super) today: usize,
    history: SipHasher13,
    trace: bool,
}

/// Runs the simulation of `seed`, which `trace` tells about on the standard error.
pub(super) fn run(seed: u64, trace: bool) -> Ended {
    let (clock, since_start) = quanta::Clock::mock();
    quanta::with_clock(&clock, || {
        let mut world = World::new(seed, since_start, trace);
        let lived = catch_unwind(AssertUnwindSafe(|| world.live()));
        let wrong = match lived {
            Ok(verdict) => verdict.err(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                Some(format!("a panic: {}", text.unwrap_or_default()))
            }
        };
        let wrong = wrong.map(|wrong| format!("day {}, step {}: {wrong}", world.day, world.step));
        Ended { seed, hash: world.history.finish(), figures: world.figures, wrong }
    })
}

impl World {
    fn new(seed: u64, since_start: Arc<Mock>, trace: bool) -> Self {
        let mut random = Random::new(seed);
        let profile = Profile::draw(&mut random).with_intake(seed);
        let wall = Wall::default();
        wall.0.store(BEGIN_MS, Ordering::Relaxed);
        let (journal, state) = (MemoryJournal::manual(), MemoryState::new());
        Self {
            store: Store::open(&profile, &wall, journal, state),
            callers: Callers::new(&profile),
            random,
            profile,
            wall,
            since_start,
            auditor: Auditor::default(),
            ops: Vec::new(),
            sendings: Vec::new(),
            step: 0,
            day: 0,
            figures: Figures::default(),
            armed: false,
            jumped_ms: 0,
            today: 0,
            history: SipHasher13::new(),
            trace,
        }
    }

    fn live(&mut self) -> Verdict {
        self.note(|world| format!("{:?}", world.profile));
        for command in self.callers.opening(&mut self.random) {
            self.ask_now(command)?;
        }
        for day in 0..self.profile.days {
            if day > 0 {
                self.next_day()?;
            }
            for _ in 0..self.profile.steps {
                self.step += 1;
                self.step()?;
            }
            self.rest()?;
        }
        Ok(())
    }

    /// Tells what happens, to whoever replays a seed.
    pub(super) fn note(&self, what: impl FnOnce(&Self) -> String) {
        if self.trace {
            eprintln!("{:>6} {}", self.step, what(self));
        }
    }

    fn step(&mut self) -> Verdict {
        let weights = &self.profile.weights;
        let kind = self.random.weighted(&[
            weights.ask,
            weights.deliver,
            weights.turn,
            weights.sync,
            weights.word,
            weights.hear,
            weights.time,
            weights.tick,
            weights.project,
            weights.snapshot,
            weights.rebuild,
            weights.fault,
        ]);
        self.history.write_u64(kind as u64);
        match kind {
            0 => self.ask(),
            3 => {
                self.store.journal.commit();
                Ok(())
            }
            5 => self.hear_all(self.profile.lost_per_mille),
            6 => {
                let ms = self.random.between(1, 300);
                self.pass(ms);
                Ok(())
            }
            8 => {
                if self.random.per_mille(600) {
                    self.store.project();
                } else {
                    self.store.flush();
                }
                Ok(())
            }
            9 => {
                let (chosen, retained) = (self.random.number(), self.random.between(0, 20_000));
                let taken = self.store.snapshot(chosen, retained);
                self.figures.count(match taken {
                    Ok(()) => "storage: snapshot and trim",
                    Err(_) => "storage: snapshot failed",
                });
                Ok(())
            }
            11 => self.fault(),
            _ => self.move_shard(kind),
        }
    }

    /// One step of one shard.
    fn move_shard(&mut self, kind: usize) -> Verdict {
        let stock = self.profile.stock_shards;
        let index = self.random.between(0, u64::from(stock + self.profile.order_shards)) as u16;
        let (store, random) = (&mut self.store, &mut self.random);
        let failed = |error: tidegate_actors::RestoreError| format!("can't be rebuilt: {error}");
        match (kind, index.checked_sub(stock)) {
            (1, None) => drop(store.stock.deliver(index, random)),
            (1, Some(index)) => drop(store.orders.deliver(index, random)),
            (2, None) => drop(store.stock.end_turn(index)),
            (2, Some(index)) => drop(store.orders.end_turn(index)),
            (4, None) => drop(store.stock.word(index)),
            (4, Some(index)) => drop(store.orders.word(index)),
            (7, None) => store.stock.tick(index),
            (7, Some(index)) => store.orders.tick(index),
            (_, None) => return store.rebuild_stock(index).map(drop).map_err(failed),
            (_, Some(index)) => return store.rebuild_orders(index).map(drop).map_err(failed),
        }
        Ok(())
    }

    /// Time passes, for the wall clock and for waits.
    pub(super) fn pass(&mut self, ms: u64) {
        self.wall.0.fetch_add(ms, Ordering::Relaxed);
        self.since_start.increment(Duration::from_millis(ms));
    }

    /// A caller asks something.
    fn ask(&mut self) -> Verdict {
        if self.sendings.len() >= SENDINGS_MAX {
            return Ok(());
        }
        let command = match self.random.weighted(&[45, 40, 6, 10, 9, 12, 6, 3]) {
            0 => {
                self.figures.count("order: placed");
                Some(self.callers.order(&mut self.random))
            }
            1 => self.about_some_order(),
            2 => Some(self.callers.hold(&mut self.random)),
            3 => {
                let holds: Vec<_> = self.auditor.hold_ids().collect();
                let hold = self.random.pick(&holds).copied();
                hold.map(|hold| self.callers.about_hold(hold, &mut self.random))
            }
            4 => Some(self.callers.about_stock(&mut self.random)),
            kind => return self.ask_again(kind),
        };
        let Some(command) = command else { return Ok(()) };
        let number = self.new_op(command);
        self.send(number)
    }

    fn about_some_order(&mut self) -> Option<Command> {
        let ids: Vec<_> = self.auditor.order_ids().collect();
        // Mostly what is new: that is where things happen.
        let newest = ids.len().saturating_sub(12);
        let ids = if self.random.per_mille(800) { &ids[newest..] } else { &ids[..] };
        let id = self.random.pick(ids).copied()?;
        let (file, total_minor) = self.auditor.order(id)?;
        let seen = file.seen.as_ref();
        if seen.is_some_and(tidegate_machines::Order::at_rest) {
            self.figures.count("asked: about an order at rest");
        }
        let known = Known { id, total_minor, seen };
        Some(self.callers.about(&known, &mut self.random))
    }

    fn ask_again(&mut self, kind: usize) -> Verdict {
        let all = self.today..self.ops.len();
        if all.is_empty() {
            return Ok(());
        }
        let recent = all.end.saturating_sub(80).max(all.start);
        let number = recent + self.random.index(all.end - recent);
        let op = &self.ops[number];
        match kind {
            5 if op.is_open() && op.in_flight == 0 => {
                self.figures.count("asked: again to know the outcome");
                self.send(number)
            }
            6 if op.command.changes() => {
                self.figures.count("asked: again after an answer");
                self.send(number)
            }
            7 => {
                let command = op.command.clone();
                let Some(other) = self.callers.reused(&command) else { return Ok(()) };
                self.figures.count("asked: a key for another request");
                let number = self.new_op(other);
                self.send(number)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn new_op(&mut self, command: Command) -> usize {
        let number = self.ops.len();
        self.auditor.asks(number, &command);
        self.ops.push(Op {
            command,
            in_flight: 0,
            good: None,
            alone: false,
            refused: false,
            unknown: false,
        });
        number
    }

    /// Sends operation `number` through the door of its shard.
    pub(super) fn send(&mut self, number: usize) -> Verdict {
        let op = &mut self.ops[number];
        op.alone = op.in_flight == 0;
        op.in_flight += 1;
        let command = op.command.clone();
        self.note(|_| format!("op {number} is sent: {command:?}"));
        let ear = self.enter(command)?;
        let sent_at = self.step;
        match ear {
            Some(ear) => {
                self.sendings.push(Sending { op: number, sent_at, ear });
                Ok(())
            }
            None => self.hear(number, sent_at, &Answer::NotTaken("not taken: overloaded")),
        }
    }

    /// Callers hear what has been answered, but for `lost_per_mille` of it.
    pub(super) fn hear_all(&mut self, lost_per_mille: u64) -> Verdict {
        let mut place = 0;
        while let Some(sending) = self.sendings.get_mut(place) {
            let Some(answer) = sending.ear.listen(&self.store.state) else {
                place += 1;
                continue;
            };
            let Sending { op, sent_at, .. } = self.sendings.remove(place);
            if lost_per_mille > 0 && self.random.per_mille(lost_per_mille) {
                self.figures.count("fault: answer lost");
                self.hear(op, sent_at, &Answer::Unknown("unknown: lost"))?;
            } else {
                self.hear(op, sent_at, &answer)?;
            }
        }
        Ok(())
    }

    pub(super) fn hear(&mut self, number: usize, sent_at: u64, answer: &Answer) -> Verdict {
        // As the client in `src/orders.rs` does: an order that has left memory is told as placed.
        if let (Command::Orders(_, OrderCommand::Place(_)), Answer::Order(order)) =
            (&self.ops[number].command, answer)
        {
            let placed = order.placed().map_or_else(Answer::OrderRefused, Answer::Receipt);
            return self.hear(number, sent_at, &placed);
        }
        self.note(|_| format!("op {number} is answered: {answer:?}"));
        self.figures.count(answer.name());
        self.remember(number, answer);
        self.auditor.hear(&self.ops, number, (sent_at, self.step), answer)?;
        let step = self.step;
        let op = &mut self.ops[number];
        op.in_flight -= 1;
        match answer {
            Answer::Unknown(_) => op.unknown = true,
            Answer::NotTaken(_) => {}
            refused if refused.is_refusal() => {
                op.refused = true;
                if op.alone {
                    op.unknown = false;
                }
            }
            good if op.good.is_none() => {
                let kept = match good {
                    Answer::Receipt(receipt) => Good::Receipt(receipt.clone()),
                    Answer::Movement(receipt) => Good::Movement(receipt.clone()),
                    Answer::Hold(hold) => Good::Hold(hold.id),
                    _ => Good::Other,
                };
                op.good = Some((kept, step));
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts an answer into the hash of the history.
    fn remember(&mut self, number: usize, answer: &Answer) {
        self.history.write_u64(self.step);
        self.history.write_u64(number as u64);
        self.history.write(answer.name().as_bytes());
        let mut bytes = Vec::new();
        let encoded = match answer {
            Answer::Receipt(receipt) => tidegate_actors::codec::encode(receipt, &mut bytes),
            Answer::Order(order) => tidegate_actors::codec::encode(order, &mut bytes),
            Answer::Orders(orders) => tidegate_actors::codec::encode(orders, &mut bytes),
            Answer::Item(item) => tidegate_actors::codec::encode(item, &mut bytes),
            Answer::Movement(receipt) => tidegate_actors::codec::encode(receipt, &mut bytes),
            Answer::Hold(hold) => tidegate_actors::codec::encode(hold, &mut bytes),
            _ => Ok(()),
        };
        // Whatever can't be encoded is still told apart by its name.
        drop(encoded);
        self.history.write(&bytes);
    }
}
