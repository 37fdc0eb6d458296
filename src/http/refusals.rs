//! Which refusal of the store is which problem: the one place where that is said. It adds no text
//! of its own; the store's errors say what is wrong.

use tidegate::{
    AskError, ConsumeError, ConsumersRejection, FeedError, IdempotencyError, MarkError, OrderError,
    OrderRejection, OutOfBounds, Refusal, StockError, StockRejection, TopicError, TopicsRejection,
    ViewError,
};

use super::problem::{Problem, ProblemType};

/// When to try again after an overload: it lasts as long as what is in flight.
const OVERLOADED_RETRY_S: u64 = 1;

/// When to try again elsewhere, or here after a restart.
const RESTART_RETRY_S: u64 = 5;

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let field = |rejection: &OrderRejection| match rejection {
            OrderRejection::Invalid(error) => Some(error.field),
            _ => None,
        };
        let wait_ms = match error.rejection() {
            Some(OrderRejection::QueueFull { expected_wait_ms, .. }) => Some(*expected_wait_ms),
            _ => None,
        };
        let problem = asked(error, order, field);
        wait_ms.into_iter().fold(problem, Problem::expected_wait_ms)
    }
}

impl From<StockError> for Problem {
    fn from(error: StockError) -> Self {
        let field = |rejection: &StockRejection| match rejection {
            StockRejection::Invalid(error) => Some(error.field),
            _ => None,
        };
        asked(error, stock, field)
    }
}

impl From<TopicError> for Problem {
    fn from(error: TopicError) -> Self {
        let field = |rejection: &TopicsRejection| match rejection {
            TopicsRejection::Invalid(error) => Some(error.field),
            _ => None,
        };
        asked(error, topic, field)
    }
}

impl From<ConsumeError> for Problem {
    fn from(error: ConsumeError) -> Self {
        let field = |rejection: &ConsumersRejection| match rejection {
            ConsumersRejection::Invalid(error) => Some(error.field),
            _ => None,
        };
        let detail = error.to_string();
        match error {
            ConsumeError::Ask(error) => asked(error, consumers, field),
            ConsumeError::Trimmed { oldest, .. } => {
                Self::new(ProblemType::MessagesTrimmed, detail).oldest_position(oldest.0)
            }
            ConsumeError::Feed(error) => error.into(),
            _ => Self::new(ProblemType::Internal, detail),
        }
    }
}

impl From<MarkError> for Problem {
    fn from(error: MarkError) -> Self {
        asked(error, invalid, |error| Some(error.field))
    }
}

impl From<OutOfBounds> for Problem {
    fn from(error: OutOfBounds) -> Self {
        Self::new(invalid(&error), error.to_string()).field(error.field)
    }
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        let detail = error.to_string();
        match error {
            FeedError::Trimmed { oldest, .. } => {
                Self::new(ProblemType::PositionTrimmed, detail).oldest_position(oldest.0)
            }
            FeedError::Ahead { .. } => Self::new(ProblemType::PositionAhead, detail),
            FeedError::Closed => {
                Self::new(ProblemType::EventsEnded, detail).retry_after_s(RESTART_RETRY_S)
            }
            // What is wrong with the journal is for the log, not for a client.
            error => {
                tracing::error!(%error, "events can't be read");
                Self::new(ProblemType::Internal, "the journal can't be read; see the log")
            }
        }
    }
}

impl From<ViewError> for Problem {
    fn from(error: ViewError) -> Self {
        let detail = error.to_string();
        match error {
            ViewError::Ahead { .. } => {
                Self::new(ProblemType::PositionAhead, detail).field("min_position")
            }
            ViewError::Building { .. } | ViewError::Late { .. } => {
                Self::new(ProblemType::ViewBehind, detail).retry_after_s(RESTART_RETRY_S)
            }
            // Why it has stopped is for the log and the operator, not for a client.
            ViewError::Stopped { name, .. } => {
                Self::new(ProblemType::ViewBehind, format!("the view {name} has stopped"))
            }
            ViewError::Closed => {
                Self::new(ProblemType::ShuttingDown, detail).retry_after_s(RESTART_RETRY_S)
            }
            error => {
                tracing::error!(%error, "a view can't be read");
                Self::new(ProblemType::Internal, "the view can't be read; see the log")
            }
        }
    }
}

fn asked<R: std::fmt::Display>(
    error: AskError<R>,
    kind: impl FnOnce(&R) -> ProblemType,
    field: impl FnOnce(&R) -> Option<&'static str>,
) -> Problem {
    let detail = error.to_string();
    match error {
        AskError::Rejected(rejection) => {
            let problem = Problem::new(kind(&rejection), detail);
            field(&rejection).into_iter().fold(problem, Problem::field)
        }
        AskError::Overloaded { .. } | AskError::Backlogged { .. } => {
            Problem::new(ProblemType::Overloaded, detail).retry_after_s(OVERLOADED_RETRY_S)
        }
        AskError::Closing => {
            Problem::new(ProblemType::ShuttingDown, detail).retry_after_s(RESTART_RETRY_S)
        }
        AskError::Unavailable { .. } => {
            Problem::new(ProblemType::Unavailable, detail).retry_after_s(OVERLOADED_RETRY_S)
        }
        // The panic's text is for the log, not for a client.
        AskError::Fault { shards, index, .. } => Problem::new(
            ProblemType::Internal,
            format!("{shards} shard {index} failed on this command; see the log"),
        ),
        AskError::Dead { .. } => Problem::new(ProblemType::ShardDown, detail),
    }
}

/// The problem of a refusal by stock.
pub(crate) fn refusal(refusal: &Refusal) -> ProblemType {
    match refusal {
        Refusal::UnknownSku { .. } => ProblemType::UnknownSku,
        Refusal::LimitExceeded { .. } => ProblemType::LimitExceeded,
        Refusal::SoldOut { .. } => ProblemType::SoldOut,
        Refusal::AmountOverflow { .. } => ProblemType::AmountTooLarge,
        Refusal::NotInStock { .. } => ProblemType::NotInStock,
        Refusal::ShardDown => ProblemType::ShardDown,
        Refusal::QueueTimeout => ProblemType::QueueTimeout,
    }
}

fn idempotency(error: &IdempotencyError) -> ProblemType {
    match error {
        IdempotencyError::Conflict => ProblemType::IdempotencyConflict,
        IdempotencyError::MemoryFull { .. } => ProblemType::KeyMemoryFull,
    }
}

fn invalid(error: &OutOfBounds) -> ProblemType {
    match error.field {
        "idempotency key" => ProblemType::KeyInvalid,
        _ => ProblemType::InvalidValue,
    }
}

fn order(rejection: &OrderRejection) -> ProblemType {
    match rejection {
        OrderRejection::Invalid(error) => invalid(error),
        OrderRejection::Idempotency(error) => idempotency(error),
        OrderRejection::Refused(why) => refusal(why),
        OrderRejection::MixedAmounts { .. } => ProblemType::MixedAmounts,
        OrderRejection::UnknownOrder { .. } => ProblemType::UnknownOrder,
        OrderRejection::PaymentConflict { .. } => ProblemType::PaymentConflict,
        OrderRejection::WrongState { .. } => ProblemType::WrongState,
        OrderRejection::AlreadyShipped { .. } => ProblemType::AlreadyShipped,
        OrderRejection::UnknownLine { .. } => ProblemType::UnknownLine,
        OrderRejection::TooMany { .. } => ProblemType::TooManyUnits,
        OrderRejection::QueueFull { .. } => ProblemType::QueueFull,
        OrderRejection::ChangeUnderWay { .. } => ProblemType::ChangeUnderWay,
    }
}

fn stock(rejection: &StockRejection) -> ProblemType {
    match rejection {
        StockRejection::Invalid(error) => invalid(error),
        StockRejection::Idempotency(error) => idempotency(error),
        StockRejection::Refused(why) => refusal(why),
        StockRejection::BelowCommitted { .. } => ProblemType::BelowCommitted,
        StockRejection::BackorderInUse { .. } => ProblemType::BackorderInUse,
        StockRejection::UnknownHold { .. } => ProblemType::UnknownHold,
        StockRejection::HoldSettled { .. } => ProblemType::HoldSettled,
        StockRejection::HoldNotConfirmed { .. } => ProblemType::HoldNotConfirmed,
    }
}

fn topic(rejection: &TopicsRejection) -> ProblemType {
    match rejection {
        TopicsRejection::Invalid(error) => invalid(error),
        TopicsRejection::Idempotency(error) => idempotency(error),
        TopicsRejection::BuiltIn => ProblemType::BuiltInTopic,
        TopicsRejection::DelayedFull => ProblemType::DelayedFull,
        TopicsRejection::SchedulesFull => ProblemType::SchedulesFull,
        TopicsRejection::UnknownSchedule { .. } => ProblemType::UnknownSchedule,
    }
}

fn consumers(rejection: &ConsumersRejection) -> ProblemType {
    match rejection {
        ConsumersRejection::Invalid(error) => invalid(error),
        ConsumersRejection::UnknownGroup { .. } => ProblemType::UnknownGroup,
        ConsumersRejection::GroupsFull => ProblemType::GroupsFull,
        ConsumersRejection::Late { .. } => ProblemType::LeaseOver,
        ConsumersRejection::DeadLettersFull => ProblemType::DeadLettersFull,
        ConsumersRejection::FollowUpsFull => ProblemType::Overloaded,
        ConsumersRejection::UnknownDeadLetter { .. } => ProblemType::UnknownDeadLetter,
        ConsumersRejection::StillToCome { .. } => ProblemType::StillToCome,
        ConsumersRejection::Paused | ConsumersRejection::Moved => ProblemType::GroupMoving,
    }
}
