"""A pytest plugin for scripts/_client_suites.py: one line `live passed|failed|skipped: NAME` per test that reached for
the broker.

A test is live when this process opened a connection to LIVE_PORT while it ran, or when it was skipped before it could.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

import pytest

PORT = int(os.environ["LIVE_PORT"])
reached = False


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: notes connections to the broker."""
    global reached
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][1] == PORT:
        reached = True


sys.addaudithook(watch)


class Outcomes:
    """What the phases of the test at hand came to."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Around one test."""
        global reached
        reached = False
        self.found.clear()
        result = yield
        outcome = next((each for each in ("failed", "skipped") if each in self.found), "passed")
        if reached or outcome == "skipped":
            print(f"\nlive {outcome}: {item.nodeid}")
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """After set-up, call and tear-down."""
        self.found.add(report.outcome)


def pytest_configure(config: pytest.Config) -> None:
    """pytest is ready."""
    config.pluginmanager.register(Outcomes())
