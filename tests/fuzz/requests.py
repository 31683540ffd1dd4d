"""Bent requests to the management API of a broker in memory: what test_requests.py and `scripts/soak fuzz` run.

Bodies, paths and credentials only, but many of them: what HTTP itself makes of its octets is seen over sockets
(bent_http.py).
"""

from __future__ import annotations

import asyncio
import random
from typing import Final

from tests.fuzz import bent_http, conversations
from tests.fuzz.bent_http import CREDENTIALS, MANAGEMENT, PATHS, QUEUES, UNAVAILABLE
from tests.support.api import Api
from tests.support.memory import Broker
from tests.support.wire import publish

PER_BROKER: Final = 50


def run_round(seed: str) -> int:
    """One broker, some requests; how many of them were answered with success.

    Raises: whatever the application raises, AssertionError for an answer with a status of the 500s
    """
    return asyncio.run(_round(random.Random(seed)))


async def _round(chance: random.Random) -> int:
    broker = Broker()
    client = broker.open()
    for name in QUEUES[:-1]:
        client.ask("queue.declare", queue=name)
        client.send(publish(1, "", name, chance.randbytes(chance.randrange(30)), properties=conversations.PROPERTIES))
    for name in ("e", "f", "de"):
        client.ask("exchange.declare", exchange=name, type=chance.choice(("topic", "headers", "fanout", "direct")))
        client.ask("queue.bind", queue="q", exchange=name, routing_key="#", arguments=conversations.TYPES)
    api = Api(broker)
    succeeded = 0
    for _ in range(PER_BROKER):
        request = chance.choice(MANAGEMENT)
        path, body = request.path, request.body
        headers: dict[str, str] = {}
        if body and chance.random() < 0.8:
            body = bent_http.odd_json(body, chance)
        elif chance.random() < 0.3:
            path = chance.choice([each for each in PATHS if each.startswith("/") and each.isascii()])
        if chance.random() < 0.05:
            headers = {"authorization": chance.choice(CREDENTIALS).decode("latin-1")}
        reply = await api.call(request.method, path, body, headers)
        assert reply.status < 500 or reply.status == UNAVAILABLE, (request.method, path, body, headers, reply.body)
        succeeded += reply.status < 300
        broker.run_turn()
    return succeeded
