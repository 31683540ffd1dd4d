"""Which sockets may stay (broker/net/admission.py)."""

from __future__ import annotations

import asyncio
import errno
import resource
from collections.abc import Callable

import pytest
import structlog

from broker.net.admission import LOOK_EVERY_S, LOOKED_AT_MAX, RESERVE, TELL_EVERY_S, Admission, Occasional, raise_limit
from tests.support.fake_transport import FakeTransport


class Client:
    def __init__(self, name: str, gone: list[str]) -> None:
        self.name = name
        self.gone = gone

    def give_way(self) -> None:
        self.gone.append(self.name)


class Socket:
    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


class Later:
    """Stands where the loop's call_later stands."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        self.calls.append((seconds, call))

    def run(self) -> None:
        calls, self.calls = self.calls, []
        for _, call in calls:
            call()


class Accepted(FakeTransport):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def get_extra_info(self, name: str, default: object = None) -> object:
        return Socket(self.number) if name == "socket" else default


def test_descriptors_are_kept_back_for_the_disk() -> None:
    """The lowest free number is given out: a high one says that those below it are taken."""
    admission = Admission(1024, Later())
    assert admission.highest == 1024 - RESERVE
    last, over = Accepted(admission.highest - 1), Accepted(admission.highest)
    with structlog.testing.capture_logs() as logs:
        assert not admission.refuses(last)
        assert admission.refuses(over)
    assert (last.aborted, over.aborted, len(logs)) == (False, True, 1)


def test_a_small_limit_keeps_a_quarter_back() -> None:
    assert Admission(64, Later()).highest == 48


def test_the_oldest_that_is_silent_goes_first_then_the_oldest_of_all() -> None:
    gone: list[str] = []
    admission = Admission(16, Later())
    clients = {name: Client(name, gone) for name in "abcdefgh"}
    for name in "abcd":
        admission.join(clients[name])
    admission.hear(clients["a"])
    admission.hear(clients["c"])
    for name in "ef":
        admission.join(clients[name])
    assert gone == ["b", "d"]
    admission.hear(clients["e"])
    admission.hear(clients["f"])
    admission.join(clients["g"])
    assert gone == ["b", "d", "a"]
    admission.leave(clients["e"])
    admission.join(clients["h"])
    assert gone == ["b", "d", "a"], "a client that has logged in has left room"


def test_what_happens_often_is_told_at_once_and_then_once_a_minute_with_counts() -> None:
    later = Later()
    with structlog.testing.capture_logs() as logs:
        occasional = Occasional("Event", later)
        for _ in range(5):
            occasional.happened()
        assert [(log["count"], log["total"]) for log in logs] == [(1, 1)]
        assert [seconds for seconds, _ in later.calls] == [TELL_EVERY_S]
        later.run()
        assert [(log["count"], log["total"]) for log in logs] == [(1, 1), (4, 5)]
        later.run()
        assert later.calls == []
        occasional.happened()
    assert [(log["count"], log["total"]) for log in logs] == [(1, 1), (4, 5), (1, 6)]


def test_a_loop_without_descriptors_says_so_once() -> None:
    """asyncio hands over an error with a traceback for every client that it cannot accept."""
    admission = Admission(1024, Later())
    loop = asyncio.new_event_loop()
    try:
        with structlog.testing.capture_logs() as logs:
            for _ in range(10):
                admission.on_loop_error(
                    loop, {"message": "socket.accept()", "exception": OSError(errno.EMFILE, "Too many open files")}
                )
            admission.on_loop_error(loop, {"message": "other", "exception": ZeroDivisionError()})
    finally:
        loop.close()
    assert [log["event"] for log in logs] == [
        "Clients were refused: no descriptors are left for them (ulimit -n)",
        "Internal error",
    ]
    assert admission.refused.count == 10


def test_the_soft_limit_becomes_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(1024, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, pair: limits.append(pair))
    assert raise_limit() == 4096
    assert limits[-1] == (4096, 4096)
    assert raise_limit() == 4096
    assert len(limits) == 2
    limits.append((1024, resource.RLIM_INFINITY))
    assert raise_limit() == 1 << 20


class Unread:
    def __init__(self) -> None:
        self.left = False
        self.gone = 0

    def has_left(self) -> bool:
        return self.left

    def give_way(self) -> None:
        self.gone += 1


def test_clients_that_are_not_read_are_looked_at_while_there_are_any() -> None:
    later = Later()
    admission = Admission(1024, later)
    one, two = Unread(), Unread()
    admission.watch(one)
    admission.watch(two)
    assert len(later.calls) == 1
    one.left = True
    later.run()
    assert (one.gone, two.gone, len(later.calls)) == (1, 0, 1)
    admission.unwatch(one)
    admission.unwatch(two)
    later.run()
    assert (one.gone, later.calls) == (1, [])


def test_very_many_that_are_not_read_are_looked_at_some_at_a_time() -> None:
    """5,000 of them at once kept everybody else waiting for 12 ms."""
    later = Later()
    admission = Admission(1024, later)
    clients = [Unread() for _ in range(LOOKED_AT_MAX * 3)]
    for client in clients:
        client.left = True
        admission.watch(client)
    admission.unwatch(clients[0])
    pauses: list[float] = []
    while sum(client.gone for client in clients) < LOOKED_AT_MAX * 3 - 1:
        before = sum(client.gone for client in clients)
        pauses += [seconds for seconds, _ in later.calls]
        later.run()
        assert sum(client.gone for client in clients) - before <= LOOKED_AT_MAX
        assert len(later.calls) == 1
    assert pauses[0] == LOOK_EVERY_S
    assert max(pauses[1:]) < LOOK_EVERY_S
    assert later.calls[0][0] == LOOK_EVERY_S
    assert clients[0].gone == 0
