#!/usr/bin/env python3
"""The whole life of an order against a running server, with the standard library only.

    tidegate serve --data /tmp/shop --listen 127.0.0.1:8080 &
    python3 examples/client.py http://127.0.0.1:8080

Run it as often as you like: each run sells a SKU of its own. A server with API keys takes one that
may do everything from TIDEGATE_KEY.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid


class Problem(Exception):
    """An answer that is a problem (RFC 9457). Decide by its type."""

    def __init__(self, status, body):
        super().__init__(f"{status} {body['type']}: {body['detail']}")
        self.status = status
        self.type = body["type"]


class Tidegate:
    """One method for each thing to ask; tries again what may be tried again."""

    def __init__(self, base, key=None):
        self.base = base.rstrip("/")
        self.key = key

    def call(self, method, path, body=None, idempotency_key=None):
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        data = None if body is None else json.dumps(body).encode()
        for _ in range(10):
            request = urllib.request.Request(self.base + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                # Too busy, or not up yet. The idempotency key makes it safe to ask again even where
                # the outcome is unknown.
                if error.code not in (429, 503):
                    raise Problem(error.code, json.load(error)) from None
                time.sleep(int(error.headers.get("Retry-After", 1)))
        raise TimeoutError(f"{method} {path}: still busy")


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    shop = Tidegate(base, os.environ.get("TIDEGATE_KEY"))
    run = uuid.uuid4().hex[:12]
    sku = f"tee-{run}"

    # Two tees, at most two for each customer.
    shop.call("PUT", f"/v1/skus/{sku}", {"price_minor": 1990, "currency": "EUR", "limit_per_user": 2})
    shop.call("POST", f"/v1/skus/{sku}/stock", {"delta": 2, "reason": "delivery"}, f"in-{run}")

    # Place. Asked twice with one key, it is one order.
    wanted = {"user": f"ann-{run}", "lines": [{"sku": sku, "quantity": 2}]}
    order = shop.call("POST", "/v1/orders", wanted, f"order-{run}")
    assert order["state"] == "awaiting_payment" and order["total_minor"] == 3980, order
    assert shop.call("POST", "/v1/orders", wanted, f"order-{run}") == order
    print(f"placed    {order['id']} for {order['total_minor']}, until {order['expires_at']}")

    # Nobody else gets what is held.
    try:
        late = {"user": f"bob-{run}", "lines": [{"sku": sku, "quantity": 1}]}
        shop.call("POST", "/v1/orders", late, f"late-{run}")
        raise AssertionError("oversold")
    except Problem as problem:
        assert problem.type == "/problems/sold-out", problem
        print(f"refused   {problem}")

    # Read.
    path = f"/v1/orders/{order['id']}"
    assert shop.call("GET", path)["state"] == "awaiting_payment"

    def tell(kind, amount):
        event = {"provider": "bank", "event_id": f"{kind}-{run}", "kind": kind, "amount_minor": amount}
        return shop.call("POST", f"{path}/payments", event)

    # Pay.
    order = tell("captured", 3980)
    assert (order["state"], order["payment_status"]) == ("confirmed", "paid"), order
    print(f"paid      {order['captured_minor']}")

    # Ship.
    order = shop.call("POST", f"{path}/fulfilments", {}, f"ship-{run}")
    assert (order["state"], order["fulfilment_status"]) == ("completed", "fulfilled"), order
    print(f"shipped   {order['fulfilments'][0]['lines'][0]['quantity']} units")

    # One comes back, and its price goes back.
    back = {"lines": [{"sku": sku, "quantity": 1}], "restock": True}
    order = shop.call("POST", f"{path}/returns", back, f"return-{run}")
    assert order["refund_due_minor"] == 1990, order
    print(f"returned  1 unit, {order['refund_due_minor']} to refund")
    order = tell("refunded", 1990)
    assert order["refund_due_minor"] == 0, order
    assert order["payment_status"] == "partially_refunded", order
    print(f"refunded  {order['refunded_minor']}")

    orders = shop.call("GET", f"/v1/users/ann-{run}/orders")["orders"]
    assert orders == [order], orders
    stock = shop.call("GET", f"/v1/skus/{sku}")
    assert (stock["on_hand"], stock["held"], stock["available"]) == (1, 0, 1), stock
    print(f"stock     {stock['on_hand']} on hand, {stock['available']} available")


if __name__ == "__main__":
    main()
