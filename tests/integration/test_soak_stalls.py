"""`scripts/soak stalls` sees a node that stands still, and says so."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for scripts/; behind the installed package

from scripts import _soak_stalls, _stall_client
from scripts._soak_stalls import Latency, Round
from scripts._stall_client import Client


def test_a_node_that_stands_still_for_a_fifth_of_a_second_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(client: Client) -> Iterator[None]:
        client.queue("q")
        yield
        os.kill(client.node.pid, signal.SIGSTOP)
        time.sleep(0.2)
        os.kill(client.node.pid, signal.SIGCONT)
        client.do()

    monkeypatch.setitem(_stall_client.INPUTS, "stopped", stopped)
    found = _soak_stalls.run("stopped")
    assert found.seconds >= 0.2
    assert found.loaded.max >= 150
    assert found.loaded.p99 >= 100, (
        "the probe goes on while nothing comes back: the wait is many late round trips, not one"
    )
    assert found.quiet.p50 < 100
    assert not _soak_stalls.passes(_soak_stalls.figures([found._replace(quiet=Latency(0.1, 0.2, 0.3))]))


@pytest.mark.parametrize(
    ("p99", "most", "passes"), [(1.0, 2.0, True), (6.0, 22.0, True), (6.1, 22.0, False), (6.0, 22.1, False)], ids=str
)
def test_what_counts_is_the_excess_over_the_quiet_probe(p99: float, most: float, passes: bool) -> None:
    """At most 5 ms at the 99th percentile and 20 ms at the maximum; the median of the rounds is judged."""
    good = Round(0.1, Latency(0.1, 1.0, 2.0), Latency(0.1, p99, most))
    bad = Round(0.1, Latency(0.1, 1.0, 2.0), Latency(0.1, 500.0, 600.0))
    assert _soak_stalls.passes(_soak_stalls.figures([good, bad, good])) is passes


def test_percentiles_are_milliseconds() -> None:
    assert _soak_stalls.summary([1000 * number for number in range(1000, 0, -1)]) == Latency(501.0, 991.0, 1000.0)
