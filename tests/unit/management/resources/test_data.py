"""What was lost of the data: health checks fail until an administrator confirms. docs/durability.md, "After damage"."""

from __future__ import annotations

import asyncio
import errno

import pytest
import structlog

from broker.management.resources.data import LOST
from tests.support.api import Api
from tests.support.durable import DurableBroker
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.memory import Broker
from tests.support.wire import publish

pytestmark = pytest.mark.asyncio
CHECKS = ("/api/health/checks/alarms", "/api/health/checks/local-alarms")


def damaged() -> DurableBroker:
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    for _ in range(10):
        client.send(*(publish(1, "", "q", b"x" * 500, properties={"delivery_mode": 2}) for _ in range(20)))
    broker.settled()
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    disk.damage("/data/wal/0000000000000001.wal", 5 * 4096 + 200, b"?")
    return broker.killed()


async def confirm(broker: DurableBroker, api: Api) -> object:
    """The answer; the disk works meanwhile."""
    asked = asyncio.ensure_future(api.post("/api/leveret/data/confirm", {}))
    while not asked.done():
        await asyncio.sleep(0)
        broker.work()
    return asked.result().json


async def test_health_checks_fail_until_it_is_confirmed_and_so_it_stays() -> None:
    broker = damaged()
    api = Api(broker)
    for path in CHECKS:
        reply = await api.get(path)
        assert reply.status == 503
        assert (reply.json["status"], reply.json["reason"], reply.json["alarms"]) == ("failed", LOST, [])
        assert "are lost" in reply.json["lost"][0]["what"]
    listed = (await api.get("/api/leveret/data")).json
    assert (listed["status"], listed["lost"]) == ("damaged", reply.json["lost"])
    client = broker.open()
    assert client.ask("queue.declare", queue="q", durable=True).number("message_count") > 0  # everything else works
    with structlog.testing.capture_logs() as logs:
        assert await confirm(broker, api) == {"confirmed": len(listed["lost"])}
    (entry,) = [entry for entry in logs if entry["event"] == "Lost data was confirmed"]
    assert (entry["user"], entry["losses"]) == ("guest", len(listed["lost"]))
    for again in (broker, broker.killed(), broker.lost_power()):
        api = Api(again)
        for path in CHECKS:
            assert (await api.get(path)).json == {"status": "ok"}
        assert (await api.get("/api/leveret/data")).json == {"status": "ok", "lost": []}
        assert (await api.post("/api/leveret/data/confirm", {})).json == {"confirmed": 0}


async def test_only_an_administrator_confirms_and_only_overseers_see_it() -> None:
    broker = damaged()
    broker.server.users.put("watcher", "w", ("monitoring",))
    broker.server.users.put("other", "o", ("management",))
    watcher, other = Api(broker, "watcher", "w"), Api(broker, "other", "o")
    assert (await watcher.get("/api/leveret/data")).json["status"] == "damaged"
    assert (await other.get("/api/leveret/data")).status == 401
    for api in (watcher, other):
        assert (await api.post("/api/leveret/data/confirm", {})).status == 401
    assert (await other.get(CHECKS[0])).status == 503


async def test_a_disk_that_does_not_take_the_confirmation() -> None:
    broker = damaged()
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    api = Api(broker)
    disk.faults.append(Fault("error", "damage.sync", arg=errno.EIO))
    answer = await confirm(broker, api)
    assert isinstance(answer, dict)
    assert api.last.status == 500
    assert "DAMAGE" in str(answer["reason"])
    assert (await api.get(CHECKS[0])).status == 503


async def test_a_node_that_keeps_nothing_has_lost_nothing() -> None:
    api = Api(Broker())
    assert (await api.get(CHECKS[0])).json == {"status": "ok"}
    assert (await api.get("/api/leveret/data")).json == {"status": "ok", "lost": []}
    assert (await api.post("/api/leveret/data/confirm", {})).json == {"confirmed": 0}
