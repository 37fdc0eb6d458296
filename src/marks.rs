//! Marks: small durable notes that a host keeps in the store beside its data, like how far it has
//! read the events or a file. They are no part of the journal and no event.

use std::sync::Arc;

use tidegate_actors::AskError;
use tidegate_machines::OutOfBounds;
use tidegate_storage::{State, StorageError, Table};

const MARKS: Table = Table(b'm');

/// Longest name of a mark, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Longest value of a mark, in bytes.
const VALUE_BYTES_MAX: usize = 4_096;

/// Why a mark was not read or set.
pub type MarkError = AskError<OutOfBounds>;

/// Reads and sets marks. Get it from [`crate::Tidegate::marks`]; cheap to clone.
#[derive(Clone)]
pub struct Marks {
    state: Arc<dyn State>,
}

impl Marks {
    pub(crate) fn new(state: Arc<dyn State>) -> Self {
        Self { state }
    }

    /// The value of the mark `name`, if it was ever set.
    ///
    /// # Errors
    /// [`MarkError`]: the name is too long, or the state can't be read.
    pub async fn get(&self, name: &str) -> Result<Option<String>, MarkError> {
        let name = check("name", name, NAME_BYTES_MAX)?;
        let state = Arc::clone(&self.state);
        let row = blocking(move || state.get(MARKS, name.as_bytes())).await?;
        Ok(row.map(|row| String::from_utf8_lossy(&row).into_owned()))
    }

    /// Sets the mark `name`, durably when this returns.
    ///
    /// # Errors
    /// [`MarkError`]: too long, or the state can't be written.
    pub async fn set(&self, name: &str, value: &str) -> Result<(), MarkError> {
        let name = check("name", name, NAME_BYTES_MAX)?;
        let value = check("value", value, VALUE_BYTES_MAX)?;
        let state = Arc::clone(&self.state);
        blocking(move || {
            state.put(MARKS, name.as_bytes(), value.as_bytes())?;
            state.flush()
        })
        .await
    }
}

fn check(field: &'static str, text: &str, bytes_max: usize) -> Result<String, MarkError> {
    if (1..=bytes_max).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    let bound = format_args!("1 to {bytes_max} bytes");
    Err(AskError::Rejected(OutOfBounds::new(field, bound, format_args!("{} bytes", text.len()))))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, MarkError> {
    let done = tokio::task::spawn_blocking(work).await;
    let unavailable = |why: String| AskError::Unavailable { why };
    match done {
        Ok(Err(StorageError::Closed)) => Err(AskError::Closing),
        Ok(result) => result.map_err(|error| unavailable(error.to_string())),
        Err(error) => Err(unavailable(error.to_string())),
    }
}
