//! Many callers at once, each asks, waits for its answer, and asks again. It counts and times; what
//! the answers mean is for `check`.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use quanta::{Clock, Instant};
use tokio::task::JoinSet;

use crate::{
    contender::Contender,
    work::{Outcome, Work},
};

/// Answers that a caller notes in one part.
const ANSWERS_EACH: usize = 256;

/// How long is asked. The end is whichever comes first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Until {
    /// The number to begin with.
    first: u64,
    /// The number to end before.
    numbers: u64,
    /// Answers before this many seconds are not timed.
    warm_up: f64,
    /// How many seconds more.
    seconds: f64,
}

impl Until {
    /// Exactly so many, all of them timed.
    pub(crate) fn numbers(numbers: u64) -> Self {
        Self { first: 0, numbers, warm_up: 0.0, seconds: f64::INFINITY }
    }

    pub(crate) fn seconds(warm_up: f64, seconds: f64) -> Self {
        Self { first: 0, numbers: u64::MAX, warm_up, seconds }
    }

    /// The same, but the numbers before `first` were asked before.
    pub(crate) fn from(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// The same, but for so many seconds at most.
    pub(crate) fn within(self, seconds: f64) -> Self {
        Self { seconds, ..self }
    }
}

/// One ask and what came of it. Small: a load of reads notes millions of them a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<T> {
    /// Its number.
    pub(crate) n: u64,
    pub(crate) outcome: T,
    /// When it was there, from the start of the load, in nanoseconds.
    at_ns: u64,
    /// How long the caller had waited, in nanoseconds.
    pub(crate) waited_ns: u64,
}

impl<T> Answer<T> {
    /// To ask `n`: there `at`, from the start of the load, after its caller had `waited`.
    pub(crate) fn new(n: u64, outcome: T, at: Duration, waited: Duration) -> Self {
        Self { n, outcome, at_ns: at.as_nanos() as u64, waited_ns: waited.as_nanos() as u64 }
    }

    fn at(&self) -> Duration {
        Duration::from_nanos(self.at_ns)
    }
}

/// All that was asked: numbers from the first, without a gap.
pub(crate) struct Asked<T> {
    pub(crate) answers: Vec<Answer<T>>,
    /// Answers that came later than this are timed…
    pub(crate) from: Duration,
    /// …but not those after this.
    pub(crate) to: Duration,
}

impl<T> Asked<T> {
    pub(crate) fn timed(&self) -> impl Iterator<Item = &Answer<T>> {
        let within = |answer: &&Answer<T>| self.from < answer.at() && answer.at() <= self.to;
        self.answers.iter().filter(within)
    }

    pub(crate) fn seconds(&self) -> f64 {
        (self.to - self.from).as_secs_f64()
    }
}

/// Asks `contender` for the orders of `work`, `in_flight` at a time.
///
/// # Errors
/// As [`ask_many`].
pub(crate) async fn drive(
    contender: &Arc<dyn Contender>,
    work: &Arc<Work>,
    in_flight: u64,
    until: Until,
) -> Result<Asked<Outcome>> {
    let (contender, work) = (Arc::clone(contender), Arc::clone(work));
    let (together, at_once) = (contender.at_once() > 1, contender.at_once().clamp(1, in_flight));
    let ask = move |numbers: Range<u64>| {
        let contender = Arc::clone(&contender);
        let orders: Vec<_> = numbers.map(|n| work.order(n)).collect();
        async move {
            match &*orders {
                [order] if !together => Ok(vec![contender.place(order).await?]),
                orders => contender.place_many(orders).await,
            }
        }
    };
    ask_in_blocks(in_flight / at_once, at_once, until, ask).await
}

/// Calls `ask` with 0, 1, 2, …, `in_flight` at a time.
///
/// # Errors
/// The first of `ask`. What is measured must not fail under load.
pub(crate) async fn ask_many<T, F>(
    in_flight: u64,
    until: Until,
    ask: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<Asked<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send,
{
    let ask = move |numbers: Range<u64>| {
        let asking = ask(numbers.start);
        async move { Ok(vec![asking.await?]) }
    };
    ask_in_blocks(in_flight, 1, until, ask).await
}

/// Calls `ask` with 0 to n − 1, n to 2n − 1, …, for n numbers at once, `callers` at a time.
///
/// # Errors
/// As [`ask_many`].
pub(crate) async fn ask_in_blocks<T, F>(
    callers: u64,
    at_once: u64,
    until: Until,
    ask: impl Fn(Range<u64>) -> F + Clone + Send + 'static,
) -> Result<Asked<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<Vec<T>>> + Send,
{
    let Until { first, numbers, warm_up, seconds } = until;
    let from = Duration::from_secs_f64(warm_up);
    let end = Duration::try_from_secs_f64(warm_up + seconds).unwrap_or(Duration::MAX);
    let (clock, next) = (Clock::new(), Arc::new(AtomicU64::new(first)));
    let start = clock.now();
    let mut asking = JoinSet::new();
    for _ in 0..callers.max(1) {
        let (clock, next, ask) = (clock.clone(), Arc::clone(&next), ask.clone());
        asking.spawn(async move {
            // In parts: one list is copied as it grows, into memory that was never touched.
            let mut answers: Vec<Vec<Answer<T>>> = Vec::new();
            let since = |moment: Instant| moment.saturating_duration_since(start);
            // The end is looked at first: a number that was taken is asked.
            while since(clock.now()) < end {
                let n = next.fetch_add(at_once, Ordering::Relaxed);
                if n >= numbers {
                    break;
                }
                // What is asked is made up before the caller begins to wait.
                let asking = ask(n..numbers.min(n.saturating_add(at_once)));
                let begun = clock.now();
                let outcomes = asking.await.with_context(|| format!("number {n}"))?;
                let done = clock.now();
                let (at, waited) = (since(done), done.saturating_duration_since(begun));
                if answers.last().is_none_or(|part| part.len() + outcomes.len() > part.capacity()) {
                    answers.push(Vec::with_capacity(outcomes.len().max(ANSWERS_EACH)));
                }
                if let Some(part) = answers.last_mut() {
                    let answer = |(n, outcome)| Answer::new(n, outcome, at, waited);
                    part.extend((n..).zip(outcomes).map(answer));
                }
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(done) = asking.join_next().await {
        answers.extend(done??.into_iter().flatten());
    }
    let last = answers.iter().map(Answer::at).max().unwrap_or_default();
    Ok(Asked { answers, from, to: end.min(last.max(from)) })
}
