"""At-least-once dead letters of a node that is killed again and again (RabbitMQ docs, Quorum Queues)."""

from __future__ import annotations

import random
import re
from typing import Final

import pytest

from tests.integration.test_durability import client_of, publish_confirmed, send, take_all
from tests.support import wait
from tests.support.node import Node

KILLS: Final = 6
ARGUMENTS: Final[dict[str, object]] = {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    "x-dead-letter-strategy": "at-least-once",
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "dead",
}


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_was_rejected_arrives_whenever_the_node_is_killed(kind: str) -> None:
    chance = random.Random(kind)
    there: set[bytes] = set()
    rejected: set[bytes] = set()
    arrived: set[bytes] = set()
    with Node() as node:
        for life in range(KILLS):
            with client_of(node) as client:
                client.ask(1, "queue.declare", queue="q", durable=True, arguments=ARGUMENTS)
                client.ask(1, "queue.declare", queue="dead", durable=True, arguments={"x-queue-type": kind})
                bodies = [b"%d-%d" % (life, number) for number in range(150)]
                publish_confirmed(client, "q", bodies)
                there.update(bodies)
                for _ in range(chance.randint(50, 140)):
                    said = client.get(1, "q")
                    rejected.add(said.body)
                    send(client, "basic.reject", delivery_tag=said.method["delivery_tag"], requeue=False)
                if life % 2:
                    arrived.update(body for body, _ in take_all(client, "dead"))
            node.kill()
            node.start()
        with client_of(node) as client:
            left = {body for body, _ in take_all(client, "q")}

            def all_have_arrived() -> bool:
                arrived.update(body for body, _ in take_all(client, "dead"))
                return there <= arrived | left

            wait.until(all_have_arrived, 10_000, "everything is in its queue, or has arrived")
            assert arrived <= rejected
        assert not re.search("Internal error", node.output())
