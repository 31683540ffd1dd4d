"""When the event loop stands still its stack goes to the log, once (broker/net/watchdog.py). The stalls are real
ones."""

from __future__ import annotations

import asyncio
import time

import pytest
import structlog

from broker.net.watchdog import Watchdog
from broker.stopwatch import Stopwatch

STALL_S = 0.2

pytestmark = pytest.mark.asyncio


def stand_still(seconds: float) -> None:
    time.sleep(seconds)


async def test_a_loop_that_stands_still_is_told_once_with_its_stack() -> None:
    stopwatch = Stopwatch()
    watchdog = Watchdog(stopwatch, STALL_S)
    with structlog.testing.capture_logs() as logs:
        watchdog.start(asyncio.get_running_loop())
        await asyncio.sleep(STALL_S / 2)
        stopwatch.where = "dispatch"
        stand_still(5 * STALL_S)
        await asyncio.sleep(STALL_S)
        watchdog.stop()
    [log] = logs
    assert (log["log_level"], log["event"], log["where"]) == ("critical", "The event loop stands still", "dispatch")
    assert "stand_still" in log["exception"]
    assert STALL_S <= log["seconds"] < 5 * STALL_S


async def test_each_stall_is_told() -> None:
    watchdog = Watchdog(Stopwatch(), STALL_S)
    with structlog.testing.capture_logs() as logs:
        watchdog.start(asyncio.get_running_loop())
        for _ in range(2):
            await asyncio.sleep(STALL_S / 2)
            stand_still(3 * STALL_S)
        await asyncio.sleep(0)
        watchdog.stop()
    assert len(logs) == 2


async def test_a_loop_that_sleeps_does_not_stand_still() -> None:
    watchdog = Watchdog(Stopwatch(), STALL_S)
    with structlog.testing.capture_logs() as logs:
        watchdog.start(asyncio.get_running_loop())
        await asyncio.sleep(3 * STALL_S)
        watchdog.stop()
    assert logs == []
