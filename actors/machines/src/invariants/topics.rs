//! What must hold of one shard of topics, and of one shard of consumer groups. Whether the two
//! agree is not looked at: a group may be anywhere in its topic.

use super::{Invariant, Violation, require};
use crate::{Consumers, Topics, bounds};

/// Checks a topic shard by itself.
///
/// # Errors
/// The first violation found.
pub fn check_topics(topics: &Topics) -> Result<(), Violation> {
    let (messages, counted_bytes, bytes) = topics.delayed_bytes();
    let bounded = messages <= bounds::DELAYED_MAX && bytes <= bounds::DELAYED_BYTES_MAX;
    require(Invariant::DelayedCounted, bounded && bytes == counted_bytes, || {
        let shard = topics.config().shard;
        format!("topic shard {shard}: {messages} messages, {bytes} bytes, {counted_bytes} counted")
    })
}

/// Checks a consumer shard by itself.
///
/// # Errors
/// The first violation found.
pub fn check_consumers(consumers: &Consumers) -> Result<(), Violation> {
    for (of, group) in consumers.groups() {
        require(Invariant::CursorHonest, group.is_honest(), || {
            format!("group {of}: {:?}", group.view())
        })?;
    }
    Ok(())
}
