"""Nodes and the health checks of alarms (RabbitMQ docs, HTTP API; Monitoring, Health Checks): fields and types that
clients read."""

from __future__ import annotations

import pytest

from broker.alarms import DISK, MEMORY
from tests.support.api import Api
from tests.support.memory import Broker

pytestmark = pytest.mark.asyncio

NUMBERS = (
    "uptime", "processors", "run_queue", "mem_used", "mem_limit", "disk_free", "disk_free_limit", "fd_used", "fd_total",
    "sockets_used", "sockets_total", "proc_used", "proc_total",
)  # fmt: skip


async def test_the_node_has_what_clients_read() -> None:
    """Typed clients refuse a node without one of these, or with null; os_pid is a text that holds a number."""
    broker = Broker()
    broker.open()
    broker.server.sockets_open = 1
    figures = broker.server.alarms.figures
    figures.memory_limit, figures.disk_free, figures.disk_free_limit = 1000, 2000, 3000
    (row,) = (await Api(broker).get("/api/nodes")).json
    assert all(type(row[name]) is int for name in NUMBERS), {name: row[name] for name in NUMBERS}
    assert row["os_pid"].isdigit()
    assert (row["name"], row["type"], row["running"], row["being_drained"]) == ("leveret@memory", "disc", True, False)
    assert (row["partitions"], row["enabled_plugins"], row["rates_mode"]) == ([], [], "basic")
    assert {each["name"]: each["version"] for each in row["applications"]} == {"rabbit": "3.13.7"}
    assert (row["mem_limit"], row["disk_free"], row["disk_free_limit"], row["sockets_used"]) == (1000, 2000, 3000, 1)
    assert (row["mem_alarm"], row["disk_free_alarm"]) == (False, False)


async def test_a_node_that_nobody_watches_shows_zeros() -> None:
    (row,) = (await Api(Broker()).get("/api/nodes")).json
    assert (row["mem_limit"], row["disk_free"], row["disk_free_limit"]) == (0, 0, 0)


async def test_one_node_by_its_name() -> None:
    api = Api(Broker())
    assert (await api.get("/api/nodes/leveret%40memory")).json["name"] == "leveret@memory"
    assert (await api.get("/api/nodes/leveret@memory")).status == 200
    assert (await api.get("/api/nodes/leveret@other")).status == 404


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("alarms", "There are alarms in effect in the cluster"),
        ("local-alarms", "There are alarms in effect on the node"),
    ],
)
async def test_health_checks_fail_while_there_is_an_alarm(path: str, reason: str) -> None:
    """RabbitMQ docs, HTTP API: 200 with status ok, otherwise 503 with status failed, a reason, and the alarms."""
    broker = Broker()
    api = Api(broker)
    reply = await api.get(f"/api/health/checks/{path}")
    assert (reply.status, reply.json) == (200, {"status": "ok"})
    for resources in ([DISK], [MEMORY, DISK], [MEMORY]):
        for name in (MEMORY, DISK):
            broker.server.alarms.set(name, name in resources)
        reply = await api.get(f"/api/health/checks/{path}")
        alarms = [{"node": "leveret@memory", "resource": name} for name in resources]
        assert (reply.status, reply.json) == (503, {"status": "failed", "reason": reason, "alarms": alarms})
        (row,) = (await api.get("/api/nodes")).json
        assert (row["mem_alarm"], row["disk_free_alarm"]) == (MEMORY in resources, DISK in resources)
