#!/usr/bin/env python3
"""Messages from a publisher to a consumer through a running server, with the standard library only:
published once, handled by one, given up when it can't be, and replayed once it can.

    tidegate serve --data /tmp/shop --listen 127.0.0.1:8080 &
    python3 examples/consumer.py http://127.0.0.1:8080

Run it as often as you like: each run has a topic of its own. A server with API keys takes one that
may do everything from TIDEGATE_KEY.
"""

import os
import sys
import uuid
from urllib.parse import quote

from client import Tidegate


class Group:
    """A consumer group of a topic. Any number of processes may consume it together."""

    def __init__(self, server, topic, name):
        self.server = server
        self.path = f"/v1/topics/{quote(topic, safe='')}/groups/{quote(name, safe='')}"
        # Sent at each start: a group that is there goes on where it is.
        retry = {"attempts_max": 3, "backoff_ms": 10}
        server.call("PUT", self.path, {"begin": "oldest", "retry": retry})

    def consume(self, handle):
        """Handles messages until none has come for two seconds. What `handle` does must be harmless
        if it is done twice: the message's id is a good idempotency key for it."""
        wanted = {"max": 10, "wait_ms": 2_000, "lease_ms": 30_000}
        while messages := self.server.call("POST", f"{self.path}/lease", wanted)["messages"]:
            for message in messages:
                lease = {"messages": [{"id": message["id"], "lease": message["lease"]}]}
                try:
                    handle(message)
                except ValueError as error:
                    self.say("fail", {**lease, "cause": str(error)})
                else:
                    self.say("ack", lease)

    def say(self, what, body):
        for outcome in self.server.call("POST", f"{self.path}/{what}", body)["outcomes"]:
            if outcome["status"] != 200:
                # Handled for too long: somebody else has it, or will have it.
                print(f"too late with {outcome['id']}: {outcome['problem']['detail']}")


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    server = Tidegate(base, os.environ.get("TIDEGATE_KEY"))
    topic = f"mails-{uuid.uuid4().hex[:12]}"
    group = Group(server, topic, "sender")
    for number, to in enumerate(["ann", "bob", "nobody", "ann"]):
        message = {"payload": {"to": to, "number": number}, "key": to}
        # Twice, as after a lost answer: it is published once.
        for _ in range(2):
            server.call("POST", f"/v1/topics/{topic}/messages", message, f"mail-{number}")

    sent, known = [], {"ann", "bob"}

    def send(message):
        mail = message["payload"]
        if mail["to"] not in known:
            raise ValueError(f"{mail['to']} has no address")
        sent.append((mail["to"], mail["number"]))

    group.consume(send)
    assert sorted(sent) == [("ann", 0), ("ann", 3), ("bob", 1)], sent
    dead = server.call("GET", f"{group.path}/dead-letters")["dead_letters"]
    assert [letter["payload"]["to"] for letter in dead] == ["nobody"], dead
    print(f"sent {sent}; given up after {dead[0]['attempts']} attempts: {dead[0]['cause']}")

    known.add("nobody")
    server.call("POST", f"{group.path}/dead-letters/{dead[0]['id']}/replay")
    group.consume(send)
    assert sent[-1] == ("nobody", 2), sent
    shown = server.call("GET", group.path)
    assert (shown["done"], shown["dead_letters"], shown["open"]["lag"]) == (4, 0, 0), shown
    print("replayed and sent; nothing is left")


if __name__ == "__main__":
    main()
