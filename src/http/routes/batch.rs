//! Many orders in one request, each by itself: one refused order stops no other. They are asked of
//! the store together, and are no batch in it: it makes batches of what is in flight anyway.

use actix_web::{HttpResponse, http::StatusCode, web::Data};
use futures_util::future::join_all;
use tidegate::{NewOrder, OrderError, OutOfBounds};

use super::{Answer, orders::answer_one};
use crate::http::{
    body::Body,
    caller::{Caller, Sell},
    problem::Problem,
    service::{Gate, Service},
    wire::{
        object::Object,
        orders::OrderBody,
        place::{Asked, KeyedOrder, OrderOutcome, Outcomes, PlaceOrders},
    },
};

/// Places up to 1,000 orders, with an outcome for each.
///
/// The status is 200 even if stock refused every order: look at the outcomes, which are in the
/// order of the request. If one order is invalid in itself, the whole batch is, and nothing is
/// placed.
#[utoipa::path(
    post, path = "/v1/orders:batch", tag = "orders", operation_id = "place_orders",
    request_body = PlaceOrders,
    responses((status = 200, description = "What became of each order", body = Outcomes)),
)]
pub(crate) async fn place(
    caller: Caller<Sell>,
    gate: Gate,
    service: Data<Service>,
    Body(batch): Body<PlaceOrders>,
) -> Answer {
    let (count, max) = (batch.orders.len(), service.limits.batch_orders_max);
    if !(1..=max).contains(&count) {
        return Err(OutOfBounds::new("orders", format_args!("1 to {max} orders"), count).into());
    }
    let orders = gate.orders(&caller);
    let lines_max = service.limits.order_lines_max;
    let checked =
        (0..).zip(batch.orders).map(|(index, Object(order))| check(index, order, lines_max));
    let checked = checked.collect::<Result<Vec<_>, _>>()?;
    let (mut placing, mut answers) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for checked in checked {
        answers.push(checked.map(|(key, order, asked)| {
            placing.push((order, key));
            asked
        }));
    }
    let mut placed = orders.place_many(placing).await.into_iter();
    let answering = answers.into_iter().map(|answer| {
        let placed = answer.map(|asked| (asked, placed.next()));
        let orders = &orders;
        async move {
            match placed {
                Ok((asked, Some(Ok(receipt)))) => good(answer_one(orders, &receipt, asked).await),
                Ok((_, Some(Err(error)))) => bad(error.into()),
                // There are as many as were asked.
                Ok((_, None)) => bad(OrderError::Closing.into()),
                Err(problem) => bad(problem),
            }
        }
    });
    let outcomes = join_all(answering).await;
    Ok(HttpResponse::Ok().json(Outcomes { outcomes }))
}

/// An order with its key, and what to answer; or why it can't be placed.
type Checked = Result<(String, NewOrder, Asked), Problem>;

/// An error if the order is invalid in itself.
fn check(index: usize, order: KeyedOrder, lines_max: usize) -> Result<Checked, Problem> {
    let checked = order.split().map_err(Problem::from).and_then(|(key, order)| {
        let (order, asked) = order.check(lines_max)?;
        Ok((key, order, asked))
    });
    match checked {
        Err(problem) if problem.kind().status() == StatusCode::UNPROCESSABLE_ENTITY => {
            Err(problem.within(&format!("orders[{index}]")))
        }
        checked => Ok(checked),
    }
}

fn good(order: OrderBody) -> OrderOutcome {
    OrderOutcome { status: StatusCode::CREATED.as_u16(), order: Some(order), problem: None }
}

fn bad(problem: Problem) -> OrderOutcome {
    OrderOutcome {
        status: problem.kind().status().as_u16(),
        order: None,
        problem: Some(problem.into_body()),
    }
}
