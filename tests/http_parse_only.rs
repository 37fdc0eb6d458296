//! The yardstick route of `benches/wrk.rs`: it refuses what placing refuses, answers as placing
//! answers, places nothing, and is there only when asked for. How fast it is is the bench's matter.

use serde_json::{Value, json};

use crate::{
    client::{Answer, Client, Server, serve},
    program::tidegate,
};

const PARSE_ONLY: &str = "/v1/orders:parse";

fn order() -> Value {
    json!({"user": "ann", "lines": [{"sku": "tee", "quantity": 1}]})
}

fn names(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

fn header_names(answer: &Answer) -> Vec<&String> {
    answer.headers.iter().map(|(name, _)| name).collect()
}

#[test]
fn parsing_only_answers_like_placing_and_places_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = serve(tidegate(), &folder.path().join("data"), "");
    command.arg("--parse-only-route");
    let server = Server::of(command);
    let mut client: Client = server.client();
    client.put("/v1/skus/tee", &json!({"price_minor": 10})).expect(200);
    let stock = json!({"delta": 10, "reason": "delivery"});
    client.post("/v1/skus/tee/stock", "in", &stock).expect(200);

    let parsed = client.post(PARSE_ONLY, "one", &order());
    let untouched = client.get("/v1/skus/tee").expect(200);
    assert_eq!((&untouched["held"], &untouched["available"]), (&json!(0), &json!(10)));
    let placed = client.post("/v1/orders", "one", &order());
    assert_eq!(header_names(&parsed), header_names(&placed));
    let (few, many) = (parsed.body.len(), placed.body.len());
    assert!(few.abs_diff(many) <= 4, "{few} bytes are not like {many}");
    let (parsed, placed) = (parsed.expect(201), placed.expect(201));
    assert_eq!(names(&parsed), names(&placed));
    assert_eq!(parsed["lines"][0]["sku"], placed["lines"][0]["sku"]);

    for body in [json!({"user": "ann"}), json!({"user": "a b", "lines": []}), json!([])] {
        let (parsed, placed) =
            (client.post(PARSE_ONLY, "two", &body), client.post("/v1/orders", "two", &body));
        assert_eq!((parsed.status, parsed.json()), (placed.status, placed.json()), "{body}");
    }
    client.post(PARSE_ONLY, "", &order()).assert_problem(400, "idempotency-key-missing");
}

#[test]
fn a_server_as_users_have_it_has_no_such_route() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    server.client().post(PARSE_ONLY, "one", &order()).assert_problem(404, "route-not-found");
}
