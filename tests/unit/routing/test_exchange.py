"""What all exchanges share (broker/routing/exchange.py): bindings, their identity, removal by destination; direct and
fanout on top."""

import pytest

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.routing import registry
from broker.routing.direct import DefaultExchange
from broker.routing.exchange import Binding, Exchange
from broker.wire import table
from broker.wire.table import EMPTY, FieldTable
from tests.support.fakes import routed

TYPES = registry.type_names()


def queue(name: str) -> Destination:
    return Destination(name, False)


def exchange(type_name: str, name: str = "e", arguments: FieldTable = EMPTY) -> Exchange:
    return registry.create(type_name, name, True, False, False, arguments)


def matched(source: Exchange, key: str, headers: FieldTable | None = None) -> list[str]:
    found: list[Destination] = []
    source.match(key, routed(headers), found)
    return sorted(destination.name for destination in found)


def test_a_new_exchange_is_what_was_declared() -> None:
    made = registry.create("topic", "logs", False, True, True, table.make({"alternate-exchange": "lost", "other": 1}))
    assert (made.name, made.type_name, made.durable, made.auto_delete, made.internal) == (
        "logs",
        "topic",
        False,
        True,
        True,
    )
    assert made.is_exchange
    assert made.alternate_exchange == "lost"
    assert made.arguments.get("other") == 1
    assert (made.binding_count, made.had_binding, made.bindings()) == (0, False, [])
    assert not queue("q").is_exchange


def test_only_the_headers_type_looks_at_headers() -> None:
    assert [name for name in TYPES if exchange(name).needs_message] == ["headers"]


def test_an_alternate_exchange_of_another_type_than_string_is_none() -> None:
    """Whether such a declare is refused is the vhost's business; routing never follows it."""
    assert exchange("direct", arguments=table.make({"alternate-exchange": 5})).alternate_exchange == ""


@pytest.mark.parametrize("type_name", ["", "z", "Direct", "x-delayed-message"])
def test_an_unknown_type_is_a_channel_error(type_name: str) -> None:
    """RabbitMQ 4 `rabbit_exchange:check_type`: 406, unknown exchange type."""
    with pytest.raises(ChannelException) as raised:
        exchange(type_name)
    assert raised.value.code == PRECONDITION_FAILED
    assert raised.value.text == f"PRECONDITION_FAILED - unknown exchange type '{type_name}'"


def test_every_predeclared_exchange_has_a_known_type() -> None:
    """RabbitMQ docs, Exchanges: the predeclared names; amq.match is a second headers exchange, the trace exchange is
    internal."""
    made = {name: exchange(type_name, name) for name, type_name, _ in registry.PREDECLARED}
    assert {name: made[name].type_name for name in made} == {
        "amq.direct": "direct",
        "amq.fanout": "fanout",
        "amq.topic": "topic",
        "amq.headers": "headers",
        "amq.match": "headers",
        "amq.rabbitmq.trace": "topic",
    }
    assert [name for name, _, internal in registry.PREDECLARED if internal] == ["amq.rabbitmq.trace"]


@pytest.mark.parametrize("type_name", TYPES)
def test_a_binding_is_known_by_source_destination_key_and_arguments(type_name: str) -> None:
    """A duplicate bind changes nothing; the order of arguments does not count, their types do (RabbitMQ
    `rabbit_binding`)."""
    source, target = exchange(type_name), queue("q")
    one = table.make({"a": 1, "b": "x"})
    turned = table.make({"b": "x", "a": 1})
    other_type = FieldTable(table.join([(b"a", b"B\x01"), (b"b", table.encode_value("x"))]))
    assert source.bind(Binding(source, target, "k", one))
    assert not source.bind(Binding(source, target, "k", one))
    assert not source.bind(Binding(source, target, "k", turned))
    assert source.bind(Binding(source, target, "k", other_type))
    assert source.bind(Binding(source, target, "k", EMPTY))
    assert source.bind(Binding(source, target, "K", one))
    assert source.bind(Binding(source, queue("q"), "k", one)), "another object, another destination"
    assert source.binding_count == len(source.bindings()) == 5
    assert [(binding.key, binding.arguments) for binding in source.bindings_to(target)] == [
        ("k", one), ("k", other_type), ("k", EMPTY), ("K", one),
    ]  # fmt: skip
    assert source.unbind(target, "k", turned)
    assert not source.unbind(target, "k", one)
    assert source.binding_count == 4


@pytest.mark.parametrize("type_name", TYPES)
def test_unbinding_what_is_not_bound_says_so(type_name: str) -> None:
    """queue.unbind of a missing binding is no error in RabbitMQ: the caller needs to know, nothing more."""
    source, target = exchange(type_name), queue("q")
    assert not source.unbind(target, "k", EMPTY)
    source.bind(Binding(source, target, "k", EMPTY))
    assert not source.unbind(target, "other", EMPTY)
    assert not source.unbind(target, "k", table.make({"a": 1}))
    assert not source.unbind(queue("q"), "k", EMPTY)
    assert source.binding_count == 1
    assert matched(source, "k") == ["q"]


@pytest.mark.parametrize("type_name", TYPES)
def test_a_destination_stays_until_its_last_binding_goes(type_name: str) -> None:
    """Two bindings may differ in their arguments alone; removing one must not take the route of the other."""
    source, target = exchange(type_name), queue("q")
    first, second = table.make({"x-a": 1}), table.make({"x-a": 2})
    source.bind(Binding(source, target, "k", first))
    source.bind(Binding(source, target, "k", second))
    assert source.unbind(target, "k", first)
    assert set(matched(source, "k")) == {"q"}
    assert source.unbind(target, "k", second)
    assert matched(source, "k") == []
    assert (source.binding_count, source.bindings(), source.bindings_to(target)) == (0, [], [])
    assert source.had_binding, "an auto-delete exchange may go now"


@pytest.mark.parametrize("type_name", TYPES)
def test_a_destination_that_goes_away_takes_its_bindings_along(type_name: str) -> None:
    """queue.delete and exchange.delete remove the bindings to what was deleted, and no others."""
    source, gone, stays = exchange(type_name), queue("gone"), queue("stays")
    for i in range(20):
        source.bind(Binding(source, gone, f"k.{i}", table.make({"x-i": i})))
        source.bind(Binding(source, stays, f"k.{i}", EMPTY))
    source.bind(Binding(source, gone, "k.1", EMPTY))
    assert len(source.remove_destination(gone)) == 21
    assert len(source.remove_destination(gone)) == 0
    assert source.binding_count == len(source.bindings()) == 20
    for i in range(20):
        assert set(matched(source, f"k.{i}")) == {"stays"}
    assert len(source.remove_destination(stays)) == 20
    assert matched(source, "k.1") == []
    assert source.bind(Binding(source, gone, "k.1", EMPTY)), "bound anew"
    assert matched(source, "k.1") == ["gone"]


def test_direct_wants_the_key_exactly() -> None:
    """AMQP 0-9-1 §3.1.3.1; wildcards mean nothing here."""
    source = exchange("direct")
    for key in ("k", "", "K", "k.", "#"):
        source.bind(Binding(source, queue(f"q:{key}"), key, EMPTY))
    source.bind(Binding(source, queue("second"), "k", EMPTY))
    assert matched(source, "k") == ["q:k", "second"]
    assert matched(source, "") == ["q:"]
    assert matched(source, "#") == ["q:#"]
    assert matched(source, "k.x") == []


def test_fanout_takes_any_key_and_each_destination_once() -> None:
    """AMQP 0-9-1 §3.1.3.2."""
    source, target = exchange("fanout"), queue("q")
    source.bind(Binding(source, target, "one", EMPTY))
    source.bind(Binding(source, target, "two", EMPTY))
    source.bind(Binding(source, queue("other"), "", EMPTY))
    assert matched(source, "anything") == ["other", "q"]
    found: list[Destination] = []
    source.match_keys(["a", "b", "c"], None, found)
    assert len(found) == 2, "several keys, one answer"


def test_the_default_exchange_knows_every_queue_by_name() -> None:
    """AMQP 0-9-1 §3.1.3.1: every queue is bound to it with its own name; it follows the vhost's dictionary as that
    changes."""
    queues = {"a": queue("a")}
    default = DefaultExchange(queues)
    assert (default.name, default.type_name, default.durable) == ("", "direct", True)
    assert matched(default, "a") == ["a"]
    assert matched(default, "b") == []
    queues["b"] = queue("b")
    assert matched(default, "b") == ["b"]
    del queues["a"]
    assert matched(default, "a") == []
    assert default.binding_count == 0


@pytest.mark.parametrize("type_name", TYPES)
def test_several_keys_find_what_each_key_finds(type_name: str) -> None:
    """CC and BCC: the message goes where any of its keys leads."""
    source = exchange(type_name)
    source.bind(Binding(source, queue("q1"), "k1", EMPTY))
    source.bind(Binding(source, queue("q2"), "k2", EMPTY))
    found: list[Destination] = []
    source.match_keys(["k1", "k2", "k3"], None, found)
    assert {destination.name for destination in found} == {"q1", "q2"}


@pytest.mark.parametrize("type_name", TYPES)
def test_a_binding_is_found_by_all_that_makes_it(type_name: str) -> None:
    """queue.unbind asks for one of perhaps 100,000 bindings of a queue; the order of the arguments does not matter."""
    source = exchange(type_name)
    target = queue("q")
    assert source.bind(Binding(source, target, "k", table.make({"a": 1, "b": 2})))
    assert source.is_bound(target, "k", table.make({"b": 2, "a": 1}))
    assert not source.is_bound(target, "k", EMPTY)
    assert not source.is_bound(target, "other", table.make({"a": 1, "b": 2}))
    assert not source.is_bound(queue("q"), "k", table.make({"a": 1, "b": 2}))
