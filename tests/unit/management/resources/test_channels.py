"""The channels of the API. Rule: RabbitMQ docs, HTTP API."""

from __future__ import annotations

import pytest

from tests.support.api import Api
from tests.support.durable import DurableBroker

pytestmark = pytest.mark.asyncio


async def test_a_channel_shows_what_it_has_not_confirmed_and_not_committed() -> None:
    broker = DurableBroker()
    client = broker.open(1, 2)
    client.ask("queue.declare", queue="q", durable=True)
    client.ask("confirm.select")
    client.ask("tx.select", on=2)
    api = Api(broker)

    async def shown() -> list[tuple[bool, bool, int, int, int]]:
        rows = sorted((await api.get("/api/channels")).json, key=lambda row: int(row["number"]))
        names = ("confirm", "transactional", "messages_unconfirmed", "messages_uncommitted", "acks_uncommitted")
        return [tuple(row[name] for name in names) for row in rows]

    assert await shown() == [(True, False, 0, 0, 0), (False, True, 0, 0, 0)]
    broker.disk_is_stalled = True
    for on in (1, 2):
        for _ in range(3):
            client.publish("q", b"x", on=on, properties={"delivery_mode": 2})
    assert await shown() == [(True, False, 3, 0, 0), (False, True, 0, 3, 0)]
    broker.disk_is_stalled = False
    broker.run_turn()
    assert client.names() == ["basic.ack"]
    client.ask("tx.rollback", on=2)
    assert await shown() == [(True, False, 0, 0, 0), (False, True, 0, 0, 0)]
