//! An order with what it is of: its SKUs with their price, limits and stock as they are now. Joined
//! when it is read, from who owns each part, so nothing of it can be stale; it keeps nothing.

use futures_util::future::join_all;

use crate::{ItemView, Order, OrderError, OrderId, QueuePlace, Sku, Tidegate};

/// An order with its payments, shipments and returns, and the SKUs in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderDetail {
    /// The order.
    pub order: Order,
    /// Where it waits, if it waits in the queue of an [intake](crate::Builder::intake).
    pub place: Option<QueuePlace>,
    /// Each SKU of its lines, in their order, as it is now; one that is unknown, for which such an
    /// order was refused, is left out.
    pub items: Vec<ItemView>,
}

impl Tidegate {
    /// An order as it is now, live or finished, with its SKUs as they are now. The order is read
    /// first, then all SKUs at once: they are not of one moment, but each shows what was answered
    /// before this was asked. Waits until what it shows is on disk.
    ///
    /// # Errors
    /// [`OrderError`]: unknown.
    pub async fn order_detail(&self, order: OrderId) -> Result<OrderDetail, OrderError> {
        let (order, place) = self.orders().get_with_place(order).await?;
        let mut skus: Vec<&Sku> = Vec::new();
        for line in &order.lines {
            if !skus.contains(&&line.sku) {
                skus.push(&line.sku);
            }
        }
        let asks = skus.into_iter().map(|sku| self.stock().get(sku.as_str()));
        let mut items = Vec::new();
        for item in join_all(asks).await {
            match item {
                Ok(item) => items.push(item),
                Err(error) => error.unless_rejected().map_or(Ok(()), Err)?,
            }
        }
        Ok(OrderDetail { order, place, items })
    }
}
