"""Which routes are forgotten when something changes (broker/vhost/routes.py), and that no other one is.

The last test compares the routes that are remembered with what the bindings say, after each of many changes.
"""

from __future__ import annotations

import random

import pytest

from broker.counters import Counters
from broker.queues.queue import Queue
from broker.routing.router import Router
from broker.turn import Turn
from broker.vhost.environment import VHostEnvironment
from broker.vhost.names import REPLY_TO_PREFIX
from broker.vhost.routes import ROUTES_MAX, Route
from broker.vhost.rules import ExchangeDeclaration
from broker.vhost.vhost import VHost
from broker.wire.table import EMPTY, FieldTable
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FULL, FakeQueue, arguments, requester
from tests.support.wire import method

ME = requester()


def made() -> VHost:
    clock = FakeClock()
    return VHost("/", VHostEnvironment(Turn(clock), clock, Counters()))


def publishing(exchange: str, key: str, ticket: int = 0) -> bytes:
    return ticket.to_bytes(2, "big") + method(1, "basic.publish", exchange=exchange, routing_key=key)[13:-1]


def with_exchanges(*names: str, alternate: str = "") -> VHost:
    vhost = made()
    given = arguments(alternate_exchange=alternate) if alternate else EMPTY
    for name in names:
        vhost.declaring.declare_exchange(ExchangeDeclaration(name, "topic", False, False, False, given), ME)
    return vhost


def declare(vhost: VHost, name: str) -> Queue:
    return vhost.declaring.declare_queue(name, False, False, False, EMPTY, ME)[0]


def test_a_temporary_queue_touches_no_route_but_its_own() -> None:
    vhost = with_exchanges("x")
    vhost.declaring.bind(vhost.exchange("x"), declare(vhost, "q"), "k", EMPTY)
    kept = [vhost.publishing.route(publishing("x", "k"), FULL), vhost.publishing.route(publishing("", "q"), FULL)]
    for _ in range(3):
        own = vhost.publishing.route(publishing("", "own"), FULL)
        assert own.targets == []
        queue = declare(vhost, "own")
        assert own.stale
        own = vhost.publishing.route(publishing("", "own"), FULL)
        assert own.targets == [queue]
        vhost.remove_queue(queue)
        assert own.stale
    assert not any(route.stale for route in kept)
    assert [
        vhost.publishing.route(publishing("x", "k"), FULL),
        vhost.publishing.route(publishing("", "q"), FULL),
    ] == kept


def test_all_routes_to_a_queue_go_with_it() -> None:
    """They differ in the reserved field or in their bits."""
    vhost = made()
    declare(vhost, "q")
    routes = [vhost.publishing.route(publishing("", "q", ticket), FULL) for ticket in (0, 1)]
    vhost.remove_queue(vhost.queues["q"])
    assert [route.stale for route in routes] == [True, True]
    assert vhost.publishing.routes_known() == 0


def test_direct_reply_to_touches_its_own_route() -> None:
    vhost = with_exchanges("x")
    kept = vhost.publishing.route(publishing("x", "k"), FULL)
    reply = vhost.publishing.route(publishing("", REPLY_TO_PREFIX + "token"), FULL)
    assert reply.targets == []

    class Reply(FakeQueue):
        def close(self) -> int:
            return 0

    queue = Reply()
    vhost.publishing.add_reply_target("token", queue)
    assert reply.stale
    reply = vhost.publishing.route(publishing("", REPLY_TO_PREFIX + "token"), FULL)
    assert reply.targets == [queue]
    vhost.publishing.remove_reply_target("token")
    assert reply.stale
    assert not kept.stale


def test_a_binding_touches_its_source_and_what_leads_there() -> None:
    vhost = with_exchanges("far", "near", "aside")
    queue = declare(vhost, "q")
    far, near = vhost.exchange("far"), vhost.exchange("near")
    vhost.declaring.bind(far, near, "#", EMPTY)

    def routes() -> list[Route]:
        return [vhost.publishing.route(publishing(name, "k"), FULL) for name in ("far", "near", "aside")]

    before = routes()
    vhost.declaring.bind(near, queue, "k", EMPTY)
    assert [route.stale for route in before] == [True, True, False]
    before = routes()
    assert [route.targets for route in before] == [[queue], [queue], []]
    vhost.declaring.unbind(near, queue, "k", EMPTY)
    assert [route.stale for route in before] == [True, True, False]
    before = routes()
    vhost.declaring.unbind(far, near, "#", EMPTY)
    assert [route.stale for route in before] == [True, False, False]


@pytest.mark.parametrize("end", ["queue", "exchange"])
def test_what_is_deleted_touches_the_exchanges_that_lead_there(end: str) -> None:
    vhost = with_exchanges("far", "near", "aside")
    queue = declare(vhost, "q")
    vhost.declaring.bind(vhost.exchange("far"), vhost.exchange("near"), "#", EMPTY)
    vhost.declaring.bind(vhost.exchange("near"), queue, "k", EMPTY)
    before = [vhost.publishing.route(publishing(name, "k"), FULL) for name in ("far", "near", "aside")]
    if end == "queue":
        vhost.remove_queue(queue)
    else:
        vhost.declaring.remove_exchange(vhost.exchange("near")).start()
    assert [route.stale for route in before] == [True, True, False]


def test_an_alternate_exchange_touches_those_that_use_it() -> None:
    vhost = with_exchanges("x", alternate="other")
    route = vhost.publishing.route(publishing("x", "k"), FULL)
    assert route.targets == []
    vhost.declaring.declare_exchange(ExchangeDeclaration("other", "fanout", False, False, False, EMPTY), ME)
    assert route.stale
    route = vhost.publishing.route(publishing("x", "k"), FULL)
    queue = declare(vhost, "q")
    assert not route.stale
    vhost.declaring.bind(vhost.exchange("other"), queue, "", EMPTY)
    assert route.stale
    route = vhost.publishing.route(publishing("x", "k"), FULL)
    assert route.targets == [queue]
    vhost.declaring.remove_exchange(vhost.exchange("other")).start()
    assert route.stale
    assert vhost.publishing.route(publishing("x", "k"), FULL).targets == []
    vhost.declaring.remove_exchange(vhost.exchange("x")).start()
    assert vhost.publishing.routes_known() == 0


def test_where_very_many_exchanges_lead_there_everything_is_forgotten() -> None:
    vhost = with_exchanges("aside", "near", *(f"x{number}" for number in range(100)))
    near = vhost.exchange("near")
    for number in range(100):
        vhost.declaring.bind(vhost.exchange(f"x{number}"), near, "#", EMPTY)
    before = [vhost.publishing.route(publishing(name, "k"), FULL) for name in ("aside", "near", "x0", "x99")]
    queue = declare(vhost, "q")
    vhost.declaring.bind(near, queue, "k", EMPTY)
    assert all(route.stale for route in before)
    after = [vhost.publishing.route(publishing(name, "k"), FULL).targets for name in ("aside", "near", "x0", "x99")]
    assert after == [[], [queue], [queue], [queue]]


def test_what_is_remembered_stays_bounded() -> None:
    vhost = with_exchanges("x", "y")
    for number in range(3 * ROUTES_MAX):
        vhost.publishing.route(publishing(("", "x", "y")[number % 3], f"k{number}"), FULL)
        assert vhost.publishing.routes_known() <= ROUTES_MAX
    vhost.declaring.bind(vhost.exchange("x"), vhost.exchange("y"), "#", EMPTY)
    known = vhost.publishing.routes_known()
    assert 0 < known < ROUTES_MAX


@pytest.mark.parametrize("seed", range(8))
def test_what_is_remembered_is_what_the_bindings_say(seed: int) -> None:
    chance = random.Random(seed)
    vhost = made()
    exchanges = [f"x{number}" for number in range(6)]
    queues = [f"q{number}" for number in range(5)]
    keys = ["a", "b", *queues]
    held: dict[bytes, Route] = {}

    def bind(destination_name: str, is_exchange: bool, undo: bool) -> None:
        source = vhost.exchanges.get(chance.choice(exchanges))
        destination = vhost.exchanges.get(destination_name) if is_exchange else vhost.queues.get(destination_name)
        if source is None or destination is None:
            return
        key = chance.choice(["a", "b", "#"])
        if undo:
            unbinding = vhost.declaring.unbind(source, destination, key, EMPTY)
            if unbinding is not None:
                unbinding.start()
        else:
            vhost.declaring.bind(source, destination, key, EMPTY)

    for _ in range(600):
        what = chance.randrange(8)
        name = chance.choice(exchanges)
        if what == 0:
            if name not in vhost.exchanges:
                kind = chance.choice(["topic", "direct", "fanout"])
                given = (
                    arguments(alternate_exchange=chance.choice(exchanges)) if chance.random() < 0.5 else FieldTable(b"")
                )
                vhost.declaring.declare_exchange(
                    ExchangeDeclaration(name, kind, False, chance.random() < 0.3, False, given), ME
                )
        elif what == 1:
            if name in vhost.exchanges:
                vhost.declaring.remove_exchange(vhost.exchanges[name]).start()
        elif what == 2:
            declare(vhost, chance.choice(queues))
        elif what == 3:
            doomed = vhost.queues.get(chance.choice(queues))
            if doomed is not None:
                vhost.remove_queue(doomed)
        else:
            bind(chance.choice(queues), False, what == 6)
            bind(chance.choice(exchanges), True, what == 7)
        for data, route in held.items():
            if not route.stale:
                fresh = Router(vhost.exchanges).route(route.exchange, [route.routing_key], None)
                assert not route.exchange.deleted
                assert route.targets == fresh, (route.exchange.name, route.routing_key)
                assert vhost.publishing.route(data, FULL) is route
        for exchange in ["", *(name for name in exchanges if name in vhost.exchanges)]:
            for key in keys:
                data = publishing(exchange, key)
                held[data] = vhost.publishing.route(data, FULL)
