//! Orders at rest, as rows of the state: by id, and by user. Written by the projector only; read by
//! shards, the facade and the audit. A row carries the order's version, so writing it twice is
//! harmless. It doesn't decide when an order is at rest.

use tidegate_machines::{Order, OrderId, Timestamp, UserId};
use tidegate_storage::{State, StorageError, Table};

use crate::codec::{self, CodecError};

const ORDERS: Table = Table(b'o');
const ORDERS_BY_USER: Table = Table(b'u');

/// Ends the user in a key of the by-user table; no user contains it.
const END: u8 = 0;

/// Why archived orders can't be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The state can't be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A row can't be understood.
    #[error("archived order {order}: {cause}")]
    Codec {
        /// The order.
        order: OrderId,
        /// What is wrong with its row.
        cause: CodecError,
    },
}

/// A place in a user's list of orders, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserCursor {
    /// When the order was placed.
    pub placed_at: Timestamp,
    /// The order.
    pub order: OrderId,
}

impl UserCursor {
    /// The place of `order`.
    #[must_use]
    pub fn of(order: &Order) -> Self {
        Self { placed_at: order.placed_at, order: order.id }
    }
}

/// Writes `order`, over any older version of it. Durable after the state's next flush. Writing the
/// same version twice changes nothing.
///
/// # Errors
/// [`ArchiveError`].
pub fn write(state: &dyn State, order: &Order) -> Result<(), ArchiveError> {
    let mut row = Vec::with_capacity(256);
    codec::encode(order, &mut row)
        .map_err(|cause| ArchiveError::Codec { order: order.id, cause })?;
    // The user's row first: after a crash between the two a list skips an order that is still in
    // memory, while an order that no list leads to would look lost to an audit.
    state.put(ORDERS_BY_USER, &user_key(&order.user, UserCursor::of(order)), &[])?;
    state.put(ORDERS, &order.id.0.to_be_bytes(), &row)?;
    Ok(())
}

/// The order `id`, if it is archived.
///
/// # Errors
/// [`ArchiveError`].
pub fn read(state: &dyn State, id: OrderId) -> Result<Option<Order>, ArchiveError> {
    let row = state.get(ORDERS, &id.0.to_be_bytes())?;
    row.map(|row| decode(id, &row)).transpose()
}

/// Up to `limit` archived orders of `user`, newest first, after `after` if given.
///
/// # Errors
/// [`ArchiveError`].
pub fn by_user(
    state: &dyn State,
    user: &UserId,
    after: Option<UserCursor>,
    limit: usize,
) -> Result<Vec<Order>, ArchiveError> {
    let mut prefix = user.as_str().as_bytes().to_vec();
    prefix.push(END);
    let after = after.map(|cursor| user_key(user, cursor));
    let rows = state.scan(ORDERS_BY_USER, &prefix, after.as_deref(), limit)?;
    let ids = rows.iter().filter_map(|(key, _)| {
        let id = key.last_chunk::<8>()?;
        Some(OrderId(!u64::from_be_bytes(*id)))
    });
    ids.filter_map(|id| read(state, id).transpose()).collect()
}

/// Whether the user of `order` leads to it.
///
/// # Errors
/// [`ArchiveError`].
pub fn is_listed(state: &dyn State, order: &Order) -> Result<bool, ArchiveError> {
    let key = user_key(&order.user, UserCursor::of(order));
    Ok(state.get(ORDERS_BY_USER, &key)?.is_some())
}

/// Up to `limit` archived orders in order of id, after `after` if given.
///
/// # Errors
/// [`ArchiveError`].
pub fn scan(
    state: &dyn State,
    after: Option<OrderId>,
    limit: usize,
) -> Result<Vec<Order>, ArchiveError> {
    let after = after.map(|id| id.0.to_be_bytes());
    let rows = state.scan(ORDERS, &[], after.as_ref().map(<[u8; 8]>::as_slice), limit)?;
    let orders = rows.into_iter().map(|(key, row)| {
        let id = key.first_chunk::<8>().map_or(0, |id| u64::from_be_bytes(*id));
        decode(OrderId(id), &row)
    });
    orders.collect()
}

/// How many orders are archived.
///
/// # Errors
/// The state can't be read.
pub fn count(state: &dyn State) -> Result<u64, StorageError> {
    const PAGE: usize = 4_096;
    let (mut count, mut after) = (0, None);
    loop {
        let rows = state.scan(ORDERS, &[], after.as_deref(), PAGE)?;
        count += rows.len() as u64;
        match rows.into_iter().last() {
            Some((key, _)) => after = Some(key),
            None => return Ok(count),
        }
    }
}

fn decode(order: OrderId, row: &[u8]) -> Result<Order, ArchiveError> {
    codec::decode(row).map_err(|cause| ArchiveError::Codec { order, cause })
}

/// Newest first: time and id are stored as their complements.
fn user_key(user: &UserId, at: UserCursor) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.as_str().len() + 17);
    key.extend_from_slice(user.as_str().as_bytes());
    key.push(END);
    key.extend_from_slice(&(!at.placed_at.0).to_be_bytes());
    key.extend_from_slice(&(!at.order.0).to_be_bytes());
    key
}
