//! Messages that are done, as they are written, and what follows from each of them. Whether a
//! lease is still good is not decided here.

use serde::Deserialize;
use tidegate::{MessageKey, OrderId, OutOfBounds, Payload, TopicName};
use utoipa::ToSchema;

use super::{
    leases::{LeaseName, Named, named},
    object::Object,
    topics::{Json, sound},
    within,
};

/// Messages that one acknowledgement publishes.
const PUBLISH_MAX: u64 = 16;

/// Orders that one acknowledgement cancels. Both together are what a machine allows.
const CANCEL_MAX: u64 = 4;

/// Messages that are done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckMessages {
    #[schema(value_type = Vec<Ack>, min_items = 1, max_items = 256)]
    messages: Vec<Object<Ack>>,
}

/// A message that is done, and what follows from it: either both are on disk then, or nothing of it
/// has happened. What follows is carried out once, soon after.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ack {
    /// The message.
    #[schema(pattern = r"^[0-9]{1,19}(\.[0-9]{1,9})?$")]
    id: String,
    /// As it was given with the message.
    lease: String,
    /// What is published. All payloads together may have 65,536 bytes. Default: nothing.
    #[serde(default)]
    #[schema(value_type = Vec<FollowingMessage>, max_items = 16)]
    publish: Vec<Object<FollowingMessage>>,
    /// Orders that are cancelled. One that can't be cancelled any more stays as it is. Default:
    /// none.
    #[serde(default)]
    #[schema(max_items = 4, pattern = "^o-[0-9a-f][0-9a-hjkmnp-tv-z]{12}$")]
    cancel: Vec<String>,
}

/// A message that is published when another is done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FollowingMessage {
    /// Where: any topic but `events`.
    #[schema(pattern = "^[!-~]{1,64}$")]
    pub(crate) topic: String,
    /// What it says: any JSON, kept as it was sent.
    #[schema(value_type = Value)]
    pub(crate) payload: Json,
    /// Messages of one key are consumed one after the other. Default: nothing orders it.
    #[serde(default)]
    #[schema(pattern = "^[!-~]{1,255}$")]
    pub(crate) key: Option<String>,
}

/// What follows from a message, checked one by one.
pub(crate) struct Following {
    pub(crate) publish: Vec<FollowingMessage>,
    pub(crate) cancel: Vec<OrderId>,
}

impl AckMessages {
    pub(crate) fn check(self) -> Result<Vec<Named<Following>>, OutOfBounds> {
        named(self.messages)
    }
}

impl LeaseName for Ack {
    type With = Following;

    fn split(self) -> Result<(String, String, Following), OutOfBounds> {
        let Self { id, lease, publish, cancel } = self;
        within("publish", publish.len() as u64, 0, PUBLISH_MAX)?;
        within("cancel", cancel.len() as u64, 0, CANCEL_MAX)?;
        let publish = publish.into_iter().map(|Object(message)| message.check());
        let cancel = cancel.iter().map(|order| order.parse::<OrderId>());
        let (publish, cancel) =
            (publish.collect::<Result<_, _>>()?, cancel.collect::<Result<_, _>>()?);
        Ok((id, lease, Following { publish, cancel }))
    }
}

impl FollowingMessage {
    fn check(self) -> Result<Self, OutOfBounds> {
        TopicName::new(&self.topic)?;
        Payload::new(sound(&self.payload)?.get().as_bytes())?;
        self.key.as_deref().map(MessageKey::new).transpose()?;
        Ok(self)
    }
}
