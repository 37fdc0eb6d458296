//! What the server counts of its own: requests, problems and how long answers took; each worker by
//! itself, so that none waits for another. Every label has few values, whatever clients send. The
//! store's figures are the library's.

use std::{
    collections::BTreeMap,
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_web::http::{Method, StatusCode};
use tidegate::{Bucket, Distribution, admin::page::Page};

use super::problem::ProblemType;

/// Stands for the path of requests that were refused before anybody looked at it.
pub(super) const REFUSED: &str = "refused";

/// Stands for every path that there is not.
pub(super) const UNMATCHED: &str = "unmatched";

/// Buckets that double, in microseconds: up to 2^26, more than a minute.
const BUCKETS: usize = 27;

/// The path of a route as it is declared, with `{…}` for what varies.
#[derive(Clone, Copy)]
pub(super) struct Template(pub(super) &'static str);

/// The counts of all workers.
#[derive(Default)]
pub(super) struct Figures(Mutex<Vec<Arc<Counts>>>);

/// The counts of one worker. Nobody else takes its lock but a reader of the figures.
#[derive(Default)]
pub(super) struct Counts {
    in_flight: AtomicUsize,
    counted: Mutex<Counted>,
}

/// A request that is being answered.
pub(super) struct InFlight<'a>(&'a Counts);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Default)]
struct Counted {
    answers: BTreeMap<(&'static str, &'static str, u16), u64>,
    problems: BTreeMap<&'static str, u64>,
    latencies: BTreeMap<&'static str, Latencies>,
}

/// How long answers took.
#[derive(Default)]
struct Latencies {
    sum_us: u64,
    /// The bucket `n` ends at 2^n; the last has the rest.
    buckets: [u64; BUCKETS],
}

impl Figures {
    /// Counts of one more worker.
    pub(super) fn of_a_worker(&self) -> Arc<Counts> {
        let counts = Arc::new(Counts::default());
        lock(&self.0).push(Arc::clone(&counts));
        counts
    }

    /// Requests that have no answer yet.
    pub(super) fn in_flight(&self) -> usize {
        lock(&self.0).iter().map(|worker| worker.in_flight.load(Ordering::SeqCst)).sum()
    }

    /// Writes the sums over all workers.
    pub(super) fn write(&self, page: &mut Page) {
        let mut all = Counted::default();
        for worker in lock(&self.0).iter() {
            all.add(&lock(&worker.counted));
        }
        let name = "tidegate_http_requests_total";
        page.head(name, "counter", "Requests answered, by path as declared.");
        for ((path, method, status), count) in &all.answers {
            let labels: [(_, &dyn Display); 3] =
                [("path", path), ("method", method), ("status", status)];
            page.sample(name, &labels, count);
        }
        let name = "tidegate_http_request_seconds";
        page.head(name, "histogram", "Time from the head of a request to that of its answer.");
        for (path, latencies) in &all.latencies {
            page.latencies(name, &[("path", path)], &latencies.distribution());
        }
        let name = "tidegate_http_problems_total";
        page.head(name, "counter", "Problems answered, by the last word of their type.");
        for kind in ProblemType::ALL {
            let count = all.problems.get(kind.slug()).copied().unwrap_or(0);
            page.sample(name, &[("type", &kind.slug())], count);
        }
    }
}

impl Counts {
    /// Counts a request until its answer is made.
    pub(super) fn enter(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(self)
    }

    /// Counts an answer.
    pub(super) fn count(
        &self,
        path: &'static str,
        method: &Method,
        status: StatusCode,
        problem: Option<ProblemType>,
        us: u64,
    ) {
        let mut counted = lock(&self.counted);
        *counted.answers.entry((path, name(method), status.as_u16())).or_default() += 1;
        counted.latencies.entry(path).or_default().count(us);
        if let Some(problem) = problem {
            *counted.problems.entry(problem.slug()).or_default() += 1;
        }
    }
}

impl Counted {
    fn add(&mut self, other: &Self) {
        for (key, count) in &other.answers {
            *self.answers.entry(*key).or_default() += count;
        }
        for (key, count) in &other.problems {
            *self.problems.entry(key).or_default() += count;
        }
        for (path, theirs) in &other.latencies {
            let ours = self.latencies.entry(path).or_default();
            ours.sum_us += theirs.sum_us;
            ours.buckets.iter_mut().zip(theirs.buckets).for_each(|(ours, theirs)| *ours += theirs);
        }
    }
}

impl Latencies {
    fn count(&mut self, us: u64) {
        self.sum_us += us;
        let bucket = us.checked_ilog2().map_or(0, |log| log as usize + 1);
        self.buckets[bucket.min(BUCKETS - 1)] += 1;
    }

    fn distribution(&self) -> Distribution {
        let end = |bucket: usize| if bucket + 1 < BUCKETS { 1 << bucket } else { u64::MAX };
        let buckets = self.buckets.iter().enumerate();
        let buckets = buckets.map(|(bucket, &count)| Bucket { below: end(bucket), count });
        Distribution { sum: self.sum_us, buckets: buckets.collect() }
    }
}

/// Methods are whatever clients send.
fn name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// Counting goes on even if somebody panicked while at it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed_and_labels_stay_few() {
        let figures = Figures::default();
        for us in [0, 1, 15, 16, u64::MAX >> 1] {
            let counts = figures.of_a_worker();
            let method = Method::from_bytes(format!("M{us}").as_bytes()).unwrap();
            counts.count(UNMATCHED, &method, StatusCode::NOT_FOUND, None, us);
        }
        let limited = Some(ProblemType::RateLimited);
        let refused = StatusCode::TOO_MANY_REQUESTS;
        figures.of_a_worker().count(REFUSED, &Method::GET, refused, limited, 3);
        let mut page = Page::new();
        figures.write(&mut page);
        let text = page.into_text();
        for line in [
            r#"tidegate_http_requests_total{path="unmatched",method="other",status="404"} 5"#,
            r#"tidegate_http_requests_total{path="refused",method="GET",status="429"} 1"#,
            r#"tidegate_http_request_seconds_bucket{path="unmatched",le="0.000016"} 3"#,
            r#"tidegate_http_request_seconds_bucket{path="unmatched",le="0.000032"} 4"#,
            r#"tidegate_http_request_seconds_bucket{path="unmatched",le="33.554432"} 4"#,
            r#"tidegate_http_request_seconds_bucket{path="unmatched",le="+Inf"} 5"#,
            r#"tidegate_http_problems_total{type="rate-limited"} 1"#,
            r#"tidegate_http_problems_total{type="sold-out"} 0"#,
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
        }
    }
}
