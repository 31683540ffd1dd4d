"""Mistakes of the broker's own: told, counted, and at the expense of their owner alone (broker/faults.py)."""

from __future__ import annotations

import structlog

from broker.faults import FaultOwner, Faults


class Owner(FaultOwner):
    def __init__(self, then: Exception | None = None) -> None:
        self.ends = 0
        self.then = then

    def fault_label(self) -> str:
        return "its name"

    def end_by_fault(self) -> None:
        self.ends += 1
        if self.then is not None:
            raise self.then


def broken() -> None:
    raise ZeroDivisionError


def test_what_raises_is_logged_with_where_and_whose_it_was_and_its_owner_ends() -> None:
    faults, owner = Faults(), Owner()
    with structlog.testing.capture_logs() as logs:
        faults.run("flush", owner, broken)
    assert owner.ends == faults.count == 1
    [log] = logs
    assert (log["log_level"], log["where"], log["owner"]) == ("error", "flush", "its name")
    assert isinstance(log["exc_info"], ZeroDivisionError)


def test_what_does_not_raise_costs_nothing() -> None:
    faults, owner = Faults(), Owner()
    faults.run("flush", owner, owner.fault_label)
    assert owner.ends == faults.count == 0


def test_an_owner_that_cannot_be_ended_is_told_as_well() -> None:
    faults, owner = Faults(), Owner(KeyError("cannot"))
    with structlog.testing.capture_logs() as logs:
        faults.run("flush", owner, broken)
    assert [log["where"] for log in logs] == ["flush", "flush, ending its owner"]
    assert (faults.count, repr(faults.last_error)) == (2, "KeyError('cannot')")


def test_work_without_an_owner_is_only_told() -> None:
    faults = Faults()
    with structlog.testing.capture_logs() as logs:
        faults.run("expiry", None, broken)
    assert [log["owner"] for log in logs] == [""]
