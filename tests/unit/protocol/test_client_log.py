"""What the log says about clients, and how much of it (broker/protocol/client_log.py); what it says when is in
tests/spec."""

from __future__ import annotations

import structlog

from broker.protocol.client_log import LINES_MAX, TEXT_SIZE_MAX, WINDOW_MS, Kind
from tests.support.fake_clock import FakeClock


def test_a_line_has_its_kinds_level() -> None:
    clock = FakeClock()
    with structlog.testing.capture_logs() as logs:
        Kind(clock, "It failed").tell({"code": 404})
        Kind(clock, "It came", False).tell({"code": 200})
    assert [(line["event"], line["code"], line["log_level"]) for line in logs] == [
        ("It failed", 404, "warning"),
        ("It came", 200, "info"),
    ]


def test_so_many_a_second_and_a_count_of_the_rest() -> None:
    clock = FakeClock()
    kind, other = Kind(clock, "It failed"), Kind(clock, "It came", False)
    with structlog.testing.capture_logs() as logs:
        for number in range(5000):
            kind.tell({"number": number})
        other.tell({})
        assert [line.get("number") for line in logs] == [*range(LINES_MAX), None]
        clock.advance(int(WINDOW_MS))
    assert (logs[-1]["event"], logs[-1]["about"], logs[-1]["count"]) == (
        "Lines were left out of the log",
        "It failed",
        5000 - LINES_MAX,
    )


def test_a_flood_that_goes_on_stays_bounded() -> None:
    """The second in which the count is told is one like any other."""
    clock = FakeClock()
    kind = Kind(clock, "It failed")
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):
            for _ in range(50):
                kind.tell({})
            clock.advance(100)
    windows = 100 * 100 // int(WINDOW_MS)
    assert len(logs) <= (LINES_MAX + 1) * (windows + 1)
    assert sum(int(line.get("count", 1)) for line in logs) == 5000


def test_after_a_quiet_second_nothing_is_left_to_do() -> None:
    clock = FakeClock()
    kind = Kind(clock, "It failed")
    with structlog.testing.capture_logs() as logs:
        kind.tell({})
        clock.advance(int(WINDOW_MS))
        assert clock.next_deadline() > clock.time_ms + 1_000_000
        for _ in range(LINES_MAX):
            kind.tell({})
    assert len(logs) == 1 + LINES_MAX


def test_what_a_client_has_chosen_is_cut() -> None:
    clock = FakeClock()
    with structlog.testing.capture_logs() as logs:
        Kind(clock, "It failed").tell({"client": "x" * 100_000, "user": "y" * TEXT_SIZE_MAX})
    assert len(logs[0]["client"]) == TEXT_SIZE_MAX
    assert logs[0]["client"].endswith("x...")
    assert logs[0]["user"] == "y" * TEXT_SIZE_MAX
