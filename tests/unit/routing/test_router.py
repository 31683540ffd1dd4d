"""From exchange to queues (broker/routing/router.py): e2e bindings, cycles, alternate exchanges, CC and BCC."""

import pytest

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.routing import registry
from broker.routing.direct import DefaultExchange
from broker.routing.exchange import Binding, Exchange
from broker.routing.router import CarbonCopies, Router
from broker.wire import table
from broker.wire.table import EMPTY, FieldTable
from tests.support.fakes import routed


def extra_keys(headers: FieldTable, at_a_time: int = 1) -> list[str]:
    keys: list[str] = []
    copies = CarbonCopies(headers)
    while not copies.read(keys, at_a_time):
        pass
    return keys


class World:
    """A vhost's exchanges and queues, as far as routing goes."""

    def __init__(self) -> None:
        self.queues: dict[str, Destination] = {}
        self.exchanges: dict[str, Exchange] = {"": DefaultExchange(self.queues)}
        self.router = Router(self.exchanges)

    def exchange(self, name: str, type_name: str = "fanout", alternate: str = "") -> Exchange:
        made = registry.create(
            type_name, name, True, False, False, table.make({"alternate-exchange": alternate}) if alternate else EMPTY
        )
        self.exchanges[name] = made
        return made

    def bind(self, source: str, destination: str, key: str = "", arguments: FieldTable = EMPTY) -> None:
        target = self.exchanges.get(destination)
        if target is None:
            self.queues.setdefault(destination, Destination(destination, False))
        self.exchanges[source].bind(Binding(self.exchanges[source], target or self.queues[destination], key, arguments))

    def used_message(self) -> bool:
        return self.router.used_message

    def route(self, exchange: str, *keys: str, headers: FieldTable | None = None) -> list[str]:
        return [
            queue.name for queue in self.router.route(self.exchanges[exchange], list(keys) or [""], routed(headers))
        ]


@pytest.fixture
def world() -> World:
    return World()


def test_each_queue_is_named_once_however_many_bindings_match(world: World) -> None:
    """RabbitMQ docs, Exchanges: one copy per queue; the order is that of discovery, the same every time."""
    world.exchange("t", "topic")
    for queue, key in (("q2", "#"), ("q1", "a.*"), ("q2", "a.*"), ("q1", "*.b"), ("q3", "a.b")):
        world.bind("t", queue, key)
    first = world.route("t", "a.b")
    assert sorted(first) == ["q1", "q2", "q3"]
    assert all(world.route("t", "a.b") == first for _ in range(5))
    assert world.route("t", "c") == ["q2"]


def test_nothing_bound_means_no_queues(world: World) -> None:
    world.exchange("d", "direct")
    assert world.route("d", "k") == []


def test_the_default_exchange_routes_to_the_queue_of_that_name(world: World) -> None:
    world.queues["q"] = Destination("q", False)
    assert world.route("", "q") == ["q"]
    assert world.route("", "q", "q", "missing") == ["q"]
    assert world.route("", "missing") == []


def test_exchanges_lead_to_exchanges_with_the_same_keys(world: World) -> None:
    """RabbitMQ docs, Exchange to Exchange Bindings: the message keeps its routing key on the way."""
    world.exchange("a", "topic")
    world.exchange("b", "direct")
    world.exchange("c")
    world.bind("a", "b", "x.#")
    world.bind("a", "c", "#.z")
    world.bind("a", "own", "x.z")
    world.bind("b", "behind-b", "x.z")
    world.bind("c", "behind-c")
    assert sorted(world.route("a", "x.z")) == ["behind-b", "behind-c", "own"]
    assert world.route("a", "x.y") == []
    assert world.route("a", "y.z") == ["behind-c"]


def test_cycles_are_cut_and_every_exchange_is_visited_once(world: World) -> None:
    for name in ("a", "b", "c"):
        world.exchange(name)
        world.bind(name, name)
        world.bind(name, f"q{name}")
    for source, target in (("a", "b"), ("b", "c"), ("c", "a"), ("c", "b")):
        world.bind(source, target)
    for start in ("a", "b", "c"):
        assert sorted(world.route(start)) == ["qa", "qb", "qc"]


def test_only_exchanges_in_a_ring_give_no_queue(world: World) -> None:
    world.exchange("a")
    world.exchange("b")
    world.bind("a", "b")
    world.bind("b", "a")
    assert world.route("a") == []


def test_the_alternate_exchange_takes_what_matches_nothing(world: World) -> None:
    """RabbitMQ docs, Alternate Exchanges."""
    world.exchange("d", "direct", alternate="lost")
    world.exchange("lost")
    world.bind("d", "q", "k")
    world.bind("lost", "lost-queue")
    assert world.route("d", "k") == ["q"]
    assert world.route("d", "other") == ["lost-queue"]
    assert world.route("d", "k", "other") == ["q"], "one key that matches is enough"


def test_alternates_of_alternates_are_followed_until_they_close_a_circle(world: World) -> None:
    world.exchange("a", "direct", alternate="b")
    world.exchange("b", "direct", alternate="c")
    world.exchange("c", "direct", alternate="a")
    assert world.route("a", "k") == []
    world.bind("c", "q", "k")
    assert world.route("a", "k") == ["q"]
    assert world.route("b", "k") == ["q"]
    assert world.route("c", "other") == []


def test_a_missing_alternate_exchange_drops_the_message(world: World) -> None:
    world.exchange("d", "direct", alternate="nowhere")
    assert world.route("d", "k") == []
    world.exchange("nowhere")
    world.bind("nowhere", "q")
    assert world.route("d", "k") == ["q"]


def test_an_exchange_that_is_its_own_alternate_ends(world: World) -> None:
    world.exchange("d", "direct", alternate="d")
    assert world.route("d", "k") == []


def test_the_alternate_belongs_to_the_exchange_whose_own_bindings_match_nothing(world: World) -> None:
    """`rabbit_exchange:route`: a matching binding to an exchange is a match, even when nothing lies behind it; there
    the alternate of the exchange behind counts."""
    world.exchange("first", "direct", alternate="lost-first")
    world.exchange("second", "direct")
    world.exchange("lost-first")
    world.exchange("lost-second")
    world.bind("lost-first", "q-lost-first")
    world.bind("lost-second", "q-lost-second")
    world.bind("first", "second", "k")
    assert world.route("first", "k") == []
    world.exchanges["second"].alternate_exchange = "lost-second"
    assert world.route("first", "k") == ["q-lost-second"]
    assert world.route("first", "other") == ["q-lost-first"]


def test_a_policy_may_change_the_alternate_exchange_at_any_time(world: World) -> None:
    exchange = world.exchange("d", "direct")
    world.exchange("lost")
    world.bind("lost", "q")
    assert world.route("d", "k") == []
    exchange.alternate_exchange = "lost"
    assert world.route("d", "k") == ["q"]


def test_the_router_tells_when_headers_decided(world: World) -> None:
    """Such a route must not be remembered by routing key, wherever on the way the headers were looked at."""
    world.exchange("h", "headers")
    world.exchange("front", "direct", alternate="h")
    world.exchange("plain", "direct")
    world.bind("h", "q", "", table.make({"a": 1}))
    world.bind("front", "q2", "k")
    headers = table.make({"a": 1})
    assert world.route("h", "k", headers=headers) == ["q"]
    assert world.used_message()
    assert world.route("h", "k") == []
    assert world.used_message(), "also when nothing was found"
    assert world.route("front", "k", headers=headers) == ["q2"]
    assert not world.used_message(), "the alternate exchange was not asked"
    assert world.route("front", "other", headers=headers) == ["q"]
    assert world.used_message()
    assert world.route("plain", "other", headers=headers) == []
    assert not world.used_message()
    world.bind("plain", "h", "k")
    assert world.route("plain", "k", headers=headers) == ["q"]
    assert world.used_message()


def test_further_keys_route_like_the_first(world: World) -> None:
    """Sender-selected distribution: CC and BCC keys find queues beside the routing key, each queue once."""
    world.exchange("d", "direct")
    for name in ("q1", "q2", "q3"):
        world.bind("d", name, name)
    world.bind("d", "q1", "q2")
    assert sorted(world.route("d", "q1", "q2", "nobody")) == ["q1", "q2"]


def test_cc_and_bcc_are_arrays_of_long_strings() -> None:
    """RabbitMQ docs, Sender-selected Distribution; `rabbit_basic:header_routes`: CC before BCC, other elements are
    passed over."""
    headers = table.make({"BCC": ["b1"], "x": 1, "CC": ["c1", 5, None, "", ["deep"], b"binary", "c\u00e9"]})
    for at_a_time in (1, 2, 1000):
        assert extra_keys(headers, at_a_time) == ["c1", "", "c\u00e9", "b1"]
    assert extra_keys(EMPTY) == []
    assert extra_keys(table.make({"cc": ["c1"], "CC": []})) == []


@pytest.mark.parametrize(
    ("headers", "term"),
    [
        ({"CC": "x"}, '{unacceptable_type_in_header,"CC",longstr}'),
        ({"BCC": 1}, '{unacceptable_type_in_header,"BCC",long}'),
        ({"CC": None}, '{unacceptable_type_in_header,"CC",void}'),
        ({"CC": {"a": 1}, "BCC": "x"}, '{unacceptable_type_in_header,"CC",table}'),
        ({"CC": ["ok"], "BCC": b""}, '{unacceptable_type_in_header,"BCC",binary}'),
    ],
    ids=repr,
)
def test_cc_of_another_type_is_a_channel_error_in_rabbitmqs_words(headers: dict[str, object], term: str) -> None:
    """Seen on RabbitMQ 3.10, the same in 3.13."""
    with pytest.raises(ChannelException) as raised:
        extra_keys(table.make(headers))
    assert raised.value.code == PRECONDITION_FAILED
    assert raised.value.text == f"PRECONDITION_FAILED - invalid message: {term}"
