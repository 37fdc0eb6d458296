//! The consumer groups that the server has open. A group is open as long as somebody has it, and a
//! client has nothing between its requests; so the server has it, until nobody has asked for it for
//! a while and nothing is left to be told of it. What a group knows durably is not here.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tidegate::{
    ConsumerGroup, GroupFigures, GroupId, Tidegate, Topic, Whence, webhooks::GROUP_PREFIX,
};
use tokio::sync::watch;

use super::{
    problem::{Problem, ProblemType},
    wire::{groups::Retry, topics::Json},
};

/// Most groups open at a time: each may have 8 MiB at hand.
const OPEN_MAX: usize = 128;

/// How long a group that has nothing to hand out stays open for nobody.
const IDLE_MAX: Duration = Duration::from_secs(60 * 60);

/// A group that was asked for within this time is not closed to make room. Longer than any request.
const BUSY: Duration = Duration::from_secs(60);

/// How often groups are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// When to try again if there is no room for another group.
const ROOM_RETRY_S: u64 = 60;

/// See the module.
#[derive(Default)]
pub(super) struct Groups {
    open: Mutex<HashMap<GroupId, Open>>,
    /// Held by whoever opens, changes or removes a group: one after the other.
    changing: tokio::sync::Mutex<()>,
}

struct Open {
    group: ConsumerGroup<Json>,
    asked: Instant,
}

impl Groups {
    /// A group that there is.
    pub(super) async fn find(
        &self,
        gate: &Tidegate,
        (topic, group): (&str, &str),
    ) -> Result<ConsumerGroup<Json>, Problem> {
        let topic = gate.topic(topic)?;
        if let Some(open) = self.look_up(&topic, group) {
            return Ok(open);
        }
        let _changing = self.changing.lock().await;
        self.open(gate, &topic, group, None).await
    }

    /// A group that is made if there is none, and how it tries again if that is said.
    pub(super) async fn make(
        &self,
        gate: &Tidegate,
        (topic, group): (&str, &str),
        (begin, retry): (Whence, Option<Retry>),
    ) -> Result<ConsumerGroup<Json>, Problem> {
        let topic = gate.topic(topic)?;
        let _changing = self.changing.lock().await;
        let open = self.open(gate, &topic, group, Some(begin)).await?;
        if let Some(retry) = retry {
            open.set_retry(retry.of())?;
            remember(gate, open.id(), &retry).await?;
        }
        Ok(open)
    }

    /// Removes a group with its dead letters.
    pub(super) async fn remove(
        &self,
        gate: &Tidegate,
        (topic, group): (&str, &str),
    ) -> Result<(), Problem> {
        let topic = gate.topic(topic)?;
        let _changing = self.changing.lock().await;
        let open = self.open(gate, &topic, group, None).await?;
        // First, so that a group that is made later never has it.
        if recall(gate, open.id()).await?.is_some() {
            remember(gate, open.id(), &Retry::default()).await?;
        }
        open.remove().await?;
        self.all().remove(open.id());
        Ok(())
    }

    /// Every open group, as it stands.
    pub(super) fn figures(&self) -> HashMap<GroupId, GroupFigures> {
        let all = self.all();
        let open = all.iter().filter(|(_, open)| !open.group.is_over());
        open.map(|(of, open)| (of.clone(), open.group.figures())).collect()
    }

    /// Opens the groups that there are, so that it is known how far behind they are; then, until
    /// the server ends, lets go of those that are not asked for.
    pub(super) async fn tend(&self, gate: Tidegate, mut draining: watch::Receiver<bool>) {
        let all = gate.consumer_groups().await;
        let all = all.inspect_err(|error| tracing::warn!(%error, "no group is open yet"));
        for (of, _) in all.unwrap_or_default().into_iter().take(OPEN_MAX) {
            let names = (of.topic.as_str(), of.group.as_str());
            if let Err(problem) = self.find(&gate, names).await {
                tracing::warn!(%of, %problem, "the group is not open yet");
            }
        }
        drop(gate);
        let ended = async { drop(draining.wait_for(|draining| *draining).await) };
        let look = async {
            loop {
                tokio::time::sleep(LOOK).await;
                self.let_go();
            }
        };
        tokio::select! {
            () = ended => {}
            () = look => {}
        }
    }

    /// Lets go of groups that nobody would miss.
    fn let_go(&self) {
        self.all().retain(|_, open| !open.is_idle());
    }

    /// An open group, which is asked for now.
    fn look_up(&self, topic: &Topic<Json>, group: &str) -> Option<ConsumerGroup<Json>> {
        let of = GroupId { topic: topic.name().clone(), group: group.parse().ok()? };
        let mut all = self.all();
        let open = all.get_mut(&of).filter(|open| !open.group.is_over())?;
        open.asked = Instant::now();
        Some(open.group.clone())
    }

    /// Opens a group; only one that there is if `begin` is not given.
    async fn open(
        &self,
        gate: &Tidegate,
        topic: &Topic<Json>,
        group: &str,
        begin: Option<Whence>,
    ) -> Result<ConsumerGroup<Json>, Problem> {
        // Somebody may have been faster.
        if let Some(open) = self.look_up(topic, group) {
            return Ok(open);
        }
        self.make_room()?;
        let opening = topic.group(group);
        let opening = match begin {
            Some(begin) => opening.begin(begin),
            None => opening.only_known(),
        };
        let opened = opening.open().await?;
        // Of a group that somebody in this process has opened, they have said it.
        if let Some(retry) = recall(gate, opened.id()).await? {
            opened.set_retry(retry.of())?;
        }
        let open = Open { group: opened.clone(), asked: Instant::now() };
        self.all().insert(opened.id().clone(), open);
        Ok(opened)
    }

    /// Lets go of the group that was not asked for longest, if there is no room.
    fn make_room(&self) -> Result<(), Problem> {
        let mut all = self.all();
        all.retain(|_, open| !open.group.is_over());
        if all.len() < OPEN_MAX {
            return Ok(());
        }
        let free = all.iter().filter(|(_, open)| open.may_go());
        let longest = free.min_by_key(|(_, open)| open.asked).map(|(of, _)| of.clone());
        let longest = longest.ok_or_else(|| {
            let detail = format!("{OPEN_MAX} groups are in use already, the most that may be");
            Problem::new(ProblemType::TooManyGroups, detail).retry_after_s(ROOM_RETRY_S)
        })?;
        all.remove(&longest);
        Ok(())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<GroupId, Open>> {
        // Nothing is done under the lock that could leave it half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Whether nobody has anything of it: a lease ends with the last who has the group.
    fn may_go(&self) -> bool {
        self.asked.elapsed() >= BUSY && self.group.figures().leased == 0
    }

    /// Whether nobody would miss it: one that is behind stays, so that its lag is told.
    fn is_idle(&self) -> bool {
        let figures = self.group.figures();
        let nothing = figures.open == 0 && figures.reads_on;
        self.group.is_over() || (self.asked.elapsed() >= IDLE_MAX && nothing && self.may_go())
    }
}

/// The name of the note of how a group tries again. Names of topics and groups have no spaces.
fn note(of: &GroupId) -> String {
    format!("retry {} {}", of.topic, of.group)
}

/// Notes how a group tries again, durably, for when it is opened anew.
async fn remember(gate: &Tidegate, of: &GroupId, retry: &Retry) -> Result<(), Problem> {
    // Numbers: this can't fail.
    let text = serde_json::to_string(retry).unwrap_or_default();
    Ok(gate.marks().set(&note(of), &text).await?)
}

async fn recall(gate: &Tidegate, of: &GroupId) -> Result<Option<Retry>, Problem> {
    // How an endpoint is tried again is in the configuration.
    if of.group.as_str().starts_with(GROUP_PREFIX) {
        return Ok(None);
    }
    let text = gate.marks().get(&note(of)).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

#[cfg(test)]
mod tests {
    use tidegate::{MessageId, Retry as RetryOf};

    use super::*;

    async fn open() -> (tempfile::TempDir, Tidegate) {
        let folder = tempfile::tempdir().unwrap();
        let gate = Tidegate::builder(folder.path()).segment_bytes(1 << 20).stock_shards(1);
        let gate = gate.order_shards(1).topic_shards(1).arbiters(1).open().await.unwrap();
        (folder, gate)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn groups_are_let_go_when_there_is_no_room_but_not_those_in_use() {
        let (_folder, gate) = open().await;
        let groups = Groups::default();
        for number in 0..OPEN_MAX {
            let names = ("t", &*format!("g{number}"));
            groups.make(&gate, names, (Whence::Oldest, None)).await.unwrap();
        }
        let refused = groups.make(&gate, ("t", "one-more"), (Whence::Now, None)).await;
        assert_eq!(refused.err().unwrap().kind(), ProblemType::TooManyGroups);
        assert_eq!(gate.consumer_groups().await.unwrap().len(), OPEN_MAX, "none was made");

        // One has a message of the first; the second was not asked for longest.
        let topic = gate.topic::<u8>("t").unwrap();
        topic.publish(&7).await.unwrap();
        let first = groups.find(&gate, ("t", "g0")).await.unwrap();
        let wait = Duration::from_secs(60);
        let leased = first.lease(1, wait, wait).await.unwrap();
        age(&groups, "g0", BUSY * 3);
        age(&groups, "g1", BUSY * 2);
        age(&groups, "g2", BUSY);
        groups.make(&gate, ("t", "one-more"), (Whence::Now, None)).await.unwrap();
        let is_open = |name| is_open(&groups, name);
        assert!(is_open("g0") && !is_open("g1") && is_open("g2") && is_open("one-more"));
        first.ack(leased[0].id(), leased[0].token(), tidegate::Effects::new()).await.unwrap();
        gate.close().await.unwrap();
    }

    /// Nobody has asked for a group of `t` for so long.
    fn age(groups: &Groups, name: &str, by: Duration) {
        let of = GroupId { topic: "t".parse().unwrap(), group: name.parse().unwrap() };
        groups.all().get_mut(&of).unwrap().asked = Instant::now().checked_sub(by).unwrap();
    }

    fn is_open(groups: &Groups, name: &str) -> bool {
        groups.all().keys().any(|of| of.group.as_str() == name)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_group_that_nobody_asks_for_is_let_go_unless_it_is_behind() {
        let (_folder, gate) = open().await;
        let groups = Groups::default();
        let topic = gate.topic::<u8>("t").unwrap();
        topic.publish(&7).await.unwrap();
        for (name, begin) in [("behind", Whence::Oldest), ("idle", Whence::Now)] {
            groups.make(&gate, ("t", name), (begin, None)).await.unwrap();
        }
        let behind = groups.find(&gate, ("t", "behind")).await.unwrap();
        while behind.figures().open == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        drop(behind);
        groups.let_go();
        assert!(is_open(&groups, "behind") && is_open(&groups, "idle"), "asked for just now");
        for name in ["behind", "idle"] {
            age(&groups, name, IDLE_MAX);
        }
        groups.let_go();
        assert!(is_open(&groups, "behind") && !is_open(&groups, "idle"));
        groups.find(&gate, ("t", "idle")).await.unwrap();
        assert!(is_open(&groups, "idle"), "it is opened when it is asked for");
        gate.close().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn how_a_group_tries_again_is_kept_until_it_is_removed() {
        let (_folder, gate) = open().await;
        let groups = Groups::default();
        let retry: Retry = serde_json::from_str(r#"{"attempts_max": 3}"#).unwrap();
        let at = MessageId::after(0);
        let made = groups.make(&gate, ("t", "g"), (Whence::After(at), Some(retry))).await;
        assert_eq!(made.unwrap().figures().retry.attempts_max, 3);
        let others = Groups::default();
        groups.all().clear();
        let found = others.find(&gate, ("t", "g")).await.unwrap();
        assert_eq!(found.figures().retry, RetryOf { attempts_max: 3, ..RetryOf::default() });
        others.remove(&gate, ("t", "g")).await.unwrap();
        let unknown = others.find(&gate, ("t", "g")).await.err().unwrap();
        assert_eq!(unknown.kind(), ProblemType::UnknownGroup);
        let made = others.make(&gate, ("t", "g"), (Whence::Oldest, None)).await.unwrap();
        assert_eq!(made.figures().retry, RetryOf::default());
        gate.close().await.unwrap();
    }
}
