//! SKUs and their stock. What a movement may do is decided by stock.

use actix_web::{HttpRequest, HttpResponse};

use super::{Answer, parameters};
use crate::http::{
    body::Body,
    caller::{Admin, Caller, Read},
    headers::{IdempotencyKey, Segment, tag_of, tagged},
    service::Gate,
    wire::skus::{Item, Movement, Receipt, SkuOptions},
};

/// Defines a SKU, or changes the options that are given.
#[utoipa::path(
    put, path = "/v1/skus/{sku}", tag = "stock", operation_id = "define_sku",
    params(("sku" = String, Path, pattern = "^[!-~]{1,64}$")),
    request_body = SkuOptions,
    responses((status = 200, description = "The SKU as it is now", body = Item)),
)]
pub(crate) async fn define(
    caller: Caller<Admin>,
    gate: Gate,
    sku: Segment,
    Body(options): Body<SkuOptions>,
) -> Answer {
    let item = gate.stock(&caller).define(&sku.0, options.check()?).await?;
    Ok(HttpResponse::Ok().json(Item::from(item)))
}

/// A SKU with its options and its stock.
#[utoipa::path(
    get, path = "/v1/skus/{sku}", tag = "stock", operation_id = "get_sku",
    params(("sku" = String, Path, pattern = "^[!-~]{1,64}$"), parameters::Known),
    responses(
        (status = 200, description = "The SKU", body = Item),
        (status = 304, description = "Not changed since"),
    ),
)]
pub(crate) async fn get(
    caller: Caller<Read>,
    gate: Gate,
    sku: Segment,
    request: HttpRequest,
) -> Answer {
    let item = Item::from(gate.stock(&caller).get(&sku.0).await?);
    Ok(tagged(&request, tag_of(&item), &item))
}

/// Moves stock in or out.
#[utoipa::path(
    post, path = "/v1/skus/{sku}/stock", tag = "stock", operation_id = "adjust_stock",
    params(("sku" = String, Path, pattern = "^[!-~]{1,64}$"), parameters::Key),
    request_body = Movement,
    responses((status = 200, description = "The stock after the movement", body = Receipt)),
)]
pub(crate) async fn adjust(
    caller: Caller<Admin>,
    gate: Gate,
    sku: Segment,
    key: IdempotencyKey,
    Body(movement): Body<Movement>,
) -> Answer {
    let receipt = gate.stock(&caller).adjust(movement.of(sku.0), &key.0).await?;
    Ok(HttpResponse::Ok().json(Receipt::from(receipt)))
}
