"""What holds for the whole suite: the build under test is the one the runner asked for."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from broker import build

CHECKOUT = Path(__file__).resolve().parent.parent
# "compiled" and "pure" are the installed package with and without its compiled hot path, "interpreted" is the checkout
# on the path; unset when pytest was called by hand.
WANTED = os.environ.get("LEVERET_BUILD", "")

# A deadline per example says how busy the machine is, not whether the code is right; pytest-timeout guards against
# hanging.
hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")


def pytest_configure(config: pytest.Config) -> None:
    if not WANTED:
        return
    found = build.loaded()
    from_checkout = build.PACKAGE == CHECKOUT / "broker"
    expected = {"compiled": (True, False), "pure": (False, False), "interpreted": (False, True)}
    if WANTED not in expected:
        raise pytest.UsageError(f"LEVERET_BUILD must be one of {', '.join(expected)}, not {WANTED!r}")
    if (found.compiled, from_checkout) != expected[WANTED]:
        raise pytest.UsageError(f"LEVERET_BUILD is {WANTED}, but what is loaded from {build.PACKAGE} is {found}")


def pytest_report_header() -> str:
    return f"broker: {build.loaded()}, from {build.PACKAGE}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if WANTED != "interpreted":
        return
    once = [item for item in items if item.get_closest_marker("once")]
    if once:
        config.hook.pytest_deselected(items=once)
        items[:] = [item for item in items if not item.get_closest_marker("once")]
