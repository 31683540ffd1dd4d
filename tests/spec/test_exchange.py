"""Exchanges and bindings as a client sees them (AMQP 0-9-1 class exchange; RabbitMQ docs, Exchanges)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import Typed

PREDECLARED = {
    "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic", "amq.headers": "headers",
    "amq.match": "headers", "amq.rabbitmq.trace": "topic",
}  # fmt: skip


def bound(client: Client, exchange: str, *queues: tuple[str, str]) -> None:
    """Declares queues and binds each with its key."""
    for queue, key in queues:
        client.ask("queue.declare", queue=queue)
        client.ask("queue.bind", queue=queue, exchange=exchange, routing_key=key)


def reached(
    client: Client, exchange: str, key: str, *queues: str, properties: dict[str, object] | None = None
) -> list[str]:
    """Which of the queues get a message, and how often."""
    client.publish(key, b"x", exchange=exchange, properties=properties)
    return [queue for queue in queues for _ in client.drain(queue)]


@pytest.mark.parametrize("name", PREDECLARED)
def test_the_predeclared_exchanges_are_there(name: str) -> None:
    """RabbitMQ docs, Exchanges."""
    client = Broker().open()
    client.ask("exchange.declare", exchange=name, passive=True)
    internal = name == "amq.rabbitmq.trace"
    client.ask("exchange.declare", exchange=name, type=PREDECLARED[name], durable=True, internal=internal)


@pytest.mark.parametrize("name", PREDECLARED)
def test_the_predeclared_exchanges_cannot_be_deleted(name: str) -> None:
    """RabbitMQ `rabbit_channel:check_not_default_exchange`."""
    client = Broker().open()
    text = client.ask_error(403, "exchange.delete", exchange=name)
    assert text == f"ACCESS_REFUSED - deletion of system exchange '{name}' in vhost '/' not allowed"


def test_a_reserved_name_cannot_be_declared_anew() -> None:
    """AMQP 0-9-1, rule "reserved"."""
    client = Broker().open()
    text = client.ask_error(403, "exchange.declare", exchange="amq.mine", type="direct")
    assert text == "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'"


def test_passive_declare_of_what_is_not_there() -> None:
    """AMQP 0-9-1 §1.1, not-found; the type does not matter then."""
    client = Broker().open()
    assert (
        client.ask_error(404, "exchange.declare", exchange="x", passive=True, type="nonsense")
        == "NOT_FOUND - no exchange 'x' in vhost '/'"
    )


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"type": "topic"},
            "inequivalent arg 'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'",
        ),
        (
            {"durable": True},
            "inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            {"auto_delete": True},
            "inequivalent arg 'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            {"internal": True},
            "inequivalent arg 'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
        ),
        (
            {"arguments": {"alternate-exchange": "amq.fanout"}},
            "inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received the value 'amq.fanout' of "
            "type 'longstr' but current is none",
        ),
    ],
)
def test_a_redeclaration_must_be_equivalent(changed: dict[str, Any], text: str) -> None:
    """Exchange.declare rule "equivalent"; RabbitMQ docs, Exchanges, Property Equivalence."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="x", type="direct")
    client.ask("exchange.declare", exchange="x", type="direct")
    assert (
        client.ask_error(406, "exchange.declare", exchange="x", **{"type": "direct", **changed})
        == f"PRECONDITION_FAILED - {text}"
    )


def test_unknown_arguments_are_not_compared() -> None:
    """RabbitMQ docs, Exchanges, Property Equivalence: only alternate-exchange is."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="x", type="direct", arguments={"x-mine": 1})
    client.ask("exchange.declare", exchange="x", type="direct", arguments={"x-yours": "2"})


def test_an_unknown_type() -> None:
    """406 on the channel, as RabbitMQ 4 answers."""
    client = Broker().open()
    assert (
        client.ask_error(406, "exchange.declare", exchange="x", type="z")
        == "PRECONDITION_FAILED - unknown exchange type 'z'"
    )


def test_declare_and_delete_without_answers() -> None:
    broker = Broker()
    client = broker.open()
    client.tell("exchange.declare", exchange="x", type="fanout", nowait=True)
    assert "x" in broker.vhost.exchanges
    client.tell("exchange.delete", exchange="x", nowait=True)
    assert "x" not in broker.vhost.exchanges
    client.expect_nothing()


def test_line_breaks_are_taken_out_of_names() -> None:
    """RabbitMQ `rabbit_channel:strip_cr_lf`."""
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="a\r\nb", type="fanout")
    client.ask("exchange.declare", exchange="ab", passive=True)


@pytest.mark.parametrize("passive", [False, True])
def test_the_default_exchange_is_off_limits(passive: bool) -> None:
    """RabbitMQ docs, Exchanges, default exchange; the type of a declaration is looked at first."""
    refusal = "ACCESS_REFUSED - operation not permitted on the default exchange"
    client = Broker().open()
    assert client.ask_error(403, "exchange.declare", exchange="", type="direct", passive=passive) == refusal
    assert client.ask_error(403, "exchange.delete", exchange="") == refusal


def test_nothing_is_bound_to_the_default_exchange_by_hand() -> None:
    """RabbitMQ docs, Exchanges, default exchange; RabbitMQ `rabbit_channel:check_not_default_exchange`."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    text = "ACCESS_REFUSED - operation not permitted on the default exchange"
    assert client.ask_error(403, "queue.bind", queue="q", exchange="", routing_key="k") == text
    assert client.ask_error(403, "queue.unbind", queue="q", exchange="", routing_key="q") == text
    assert client.ask_error(403, "exchange.bind", source="", destination="amq.fanout") == text
    assert client.ask_error(403, "exchange.bind", source="amq.fanout", destination="") == text


def test_deleting_what_is_not_there() -> None:
    """RabbitMQ docs, Specification, queue.delete."""
    Broker().open().ask("exchange.delete", exchange="x")


def test_delete_if_unused() -> None:
    """AMQP 0-9-1 queue.delete: in use is an exchange that is the source of a binding."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="x", type="fanout")
    bound(client, "x", ("q", ""))
    text = client.ask_error(406, "exchange.delete", exchange="x", if_unused=True)
    assert text == "PRECONDITION_FAILED - exchange 'x' in vhost '/' in use"
    client.ask("queue.unbind", queue="q", exchange="x")
    client.ask("exchange.delete", exchange="x", if_unused=True)


def test_publishing_to_a_deleted_exchange() -> None:
    """Cached routes end with their exchange."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="x", type="fanout")
    bound(client, "x", ("q", ""))
    client.publish("", b"1", exchange="x")
    client.ask("exchange.delete", exchange="x")
    client.publish("", b"2", exchange="x")
    assert client.channel_error(404) == "NOT_FOUND - no exchange 'x' in vhost '/'"
    client.ask("channel.open")
    assert client.drain("q") == [b"1"]


def test_an_internal_exchange_takes_no_publishes() -> None:
    """AMQP 0-9-1 exchange.declare, internal; it is reached through bindings."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="inner", type="fanout", internal=True)
    bound(client, "inner", ("q", ""))
    client.ask("exchange.declare", exchange="outer", type="fanout")
    client.ask("exchange.bind", source="outer", destination="inner")
    client.publish("", b"x", exchange="inner")
    assert client.channel_error(403) == "ACCESS_REFUSED - cannot publish to internal exchange 'inner' in vhost '/'"
    client.ask("channel.open")
    assert reached(client, "outer", "", "q") == ["q"]


def test_an_auto_delete_exchange_goes_with_its_last_binding() -> None:
    """RabbitMQ docs, Exchanges, auto-delete: the last binding where it is the source; never if it never had one."""
    broker = Broker()
    client = broker.open()
    client.ask("exchange.declare", exchange="x", type="fanout", auto_delete=True)
    client.ask("exchange.declare", exchange="y", type="fanout", auto_delete=True)
    client.ask("exchange.bind", source="amq.fanout", destination="y")
    client.ask("exchange.unbind", source="amq.fanout", destination="y")
    bound(client, "x", ("q1", ""), ("q2", ""))
    client.ask("queue.unbind", queue="q1", exchange="x")
    assert "x" in broker.vhost.exchanges
    client.ask("queue.delete", queue="q2")
    assert "x" not in broker.vhost.exchanges
    assert "y" in broker.vhost.exchanges


def test_a_chain_of_auto_delete_exchanges_goes_together() -> None:
    broker = Broker()
    client = broker.open()
    for name in ("a", "b", "c"):
        client.ask("exchange.declare", exchange=name, type="fanout", auto_delete=True)
    client.ask("exchange.bind", source="a", destination="b")
    client.ask("exchange.bind", source="b", destination="c")
    bound(client, "c", ("q", ""))
    client.ask("queue.delete", queue="q")
    assert {"a", "b", "c"} & broker.vhost.exchanges.keys() == set()


# routing


def test_the_default_exchange_routes_to_the_queue_named_by_the_key() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="a")
    client.ask("queue.declare", queue="b")
    assert reached(client, "", "a", "a", "b") == ["a"]


def test_direct_routes_by_equal_keys() -> None:
    """RabbitMQ docs, Exchanges."""
    client = Broker().open()
    bound(client, "amq.direct", ("a", "k"), ("b", "k"), ("c", "other"))
    assert reached(client, "amq.direct", "k", "a", "b", "c") == ["a", "b"]


def test_fanout_ignores_keys() -> None:
    client = Broker().open()
    bound(client, "amq.fanout", ("a", "k"), ("b", ""))
    assert reached(client, "amq.fanout", "whatever", "a", "b") == ["a", "b"]


def test_a_queue_gets_one_copy_however_many_bindings_match() -> None:
    """RabbitMQ docs, Exchanges."""
    client = Broker().open()
    bound(client, "amq.topic", ("a", "#"), ("a", "x.*"), ("a", "x.y"))
    assert reached(client, "amq.topic", "x.y", "a") == ["a"]


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("a.*", "a.b", True), ("a.*", "a", False), ("a.*", "a.b.c", False),
        ("a.#", "a", True), ("a.#", "a.b", True), ("#", "", True), ("*", "", False),
    ],
)  # fmt: skip
def test_topic_patterns(pattern: str, key: str, matches: bool) -> None:
    """RabbitMQ docs, Exchanges, topic: `*` is one word, `#` any number; a key of no letters has no words."""
    client = Broker().open()
    bound(client, "amq.topic", ("a", pattern))
    assert reached(client, "amq.topic", key, "a") == ["a"] * matches


def test_headers_exchange() -> None:
    """RabbitMQ docs, Exchanges, headers: x-match all and any; each message is looked at, nothing is remembered from the
    one before."""
    client = Broker().open()
    for queue, match in (("all", "all"), ("any", "any")):
        client.ask("queue.declare", queue=queue)
        client.ask("queue.bind", queue=queue, exchange="amq.headers", arguments={"x-match": match, "a": 1, "b": "two"})
    for headers, queues in (
        ({"a": 1, "b": "two"}, ["all", "any"]),
        ({"a": 1}, ["any"]),
        ({"a": "1"}, []),
        ({}, []),
        ({"b": "two", "c": 3}, ["any"]),
    ):
        assert reached(client, "amq.headers", "", "all", "any", properties={"headers": headers}) == queues


def test_a_bad_x_match_is_refused() -> None:
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.ask_error(406, "queue.bind", queue="q", exchange="amq.headers", arguments={"x-match": "some"})


def test_binding_twice_is_binding_once() -> None:
    """AMQP 0-9-1 queue.bind, rule "duplicates"."""
    client = Broker().open()
    bound(client, "amq.direct", ("q", "k"), ("q", "k"))
    assert reached(client, "amq.direct", "k", "q") == ["q"]
    client.ask("queue.unbind", queue="q", exchange="amq.direct", routing_key="k")
    assert reached(client, "amq.direct", "k", "q") == []


def test_unbinding_what_is_not_bound() -> None:
    """RabbitMQ docs, Specification, queue.delete: missing binding, queue or exchange."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.unbind", queue="q", exchange="amq.direct", routing_key="k")
    client.ask("queue.unbind", queue="missing", exchange="amq.direct", routing_key="k")
    client.ask("queue.unbind", queue="q", exchange="missing", routing_key="k")
    client.ask("exchange.unbind", source="missing", destination="amq.direct", routing_key="k")


def test_binding_what_is_not_there() -> None:
    """AMQP 0-9-1 §1.1, not-found."""
    client = Broker().open()
    assert (
        client.ask_error(404, "queue.bind", queue="missing", exchange="amq.direct")
        == "NOT_FOUND - no queue 'missing' in vhost '/'"
    )
    client.ask("queue.declare", queue="q")
    assert (
        client.ask_error(404, "queue.bind", queue="q", exchange="missing")
        == "NOT_FOUND - no exchange 'missing' in vhost '/'"
    )
    assert (
        client.ask_error(404, "exchange.bind", source="amq.direct", destination="missing")
        == "NOT_FOUND - no exchange 'missing' in vhost '/'"
    )


def test_an_empty_queue_name_in_bind_is_the_last_declared() -> None:
    """AMQP 0-9-1 queue.declare, rule "default-name": with an empty key its name is the key too."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    client.ask("queue.bind", exchange="amq.direct")
    assert reached(client, "amq.direct", "q", "q") == ["q"]
    client.ask("queue.unbind", exchange="amq.direct")
    assert reached(client, "amq.direct", "q", "q") == []


def test_exchanges_are_bound_to_exchanges() -> None:
    """RabbitMQ docs, Exchange to Exchange Bindings: one copy for each queue; cycles are cut."""
    client = Broker().open()
    for name in ("a", "b"):
        client.ask("exchange.declare", exchange=name, type="fanout")
        bound(client, name, ("q", ""), (f"only-{name}", ""))
    client.ask("exchange.bind", source="a", destination="b")
    client.ask("exchange.bind", source="b", destination="a")
    assert reached(client, "a", "", "q", "only-a", "only-b") == ["q", "only-a", "only-b"]
    client.ask("exchange.unbind", source="a", destination="b")
    assert reached(client, "a", "", "q", "only-a", "only-b") == ["q", "only-a"]


def test_the_alternate_exchange_takes_what_is_not_routed() -> None:
    """RabbitMQ docs, Alternate Exchanges: recursively; a mandatory message is returned only when it too has no
    queue."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="last", type="fanout")
    client.ask("exchange.declare", exchange="second", type="direct", arguments={"alternate-exchange": "last"})
    client.ask("exchange.declare", exchange="first", type="direct", arguments={"alternate-exchange": "second"})
    client.publish("k", b"lost", exchange="first", mandatory=True)
    assert client.names() == ["basic.return"]
    bound(client, "last", ("caught", ""))
    bound(client, "first", ("q", "k"))
    client.publish("k", b"1", exchange="first", mandatory=True)
    client.publish("other", b"2", exchange="first", mandatory=True)
    client.expect_nothing()
    assert (client.drain("q"), client.drain("caught")) == ([b"1"], [b"2"])


def test_a_missing_alternate_exchange_drops() -> None:
    """RabbitMQ docs, Alternate Exchanges."""
    client = Broker().open()
    client.ask("exchange.declare", exchange="x", type="fanout", arguments={"alternate-exchange": "missing"})
    client.publish("k", b"lost", exchange="x")
    client.expect_nothing()


def test_carbon_copies() -> None:
    """RabbitMQ docs, Sender-selected Distribution: CC and BCC are further keys; BCC is taken out; the delivered key is
    the publisher's."""
    client = Broker().open()
    for queue in ("a", "b", "c"):
        client.ask("queue.declare", queue=queue)
    client.publish("a", b"x", properties={"headers": {"CC": ["b", "a"], "BCC": ["c"], "kept": 1}})
    for queue in ("a", "b", "c"):
        said = client.get(queue, no_ack=True)
        assert said is not None
        assert said.method["routing_key"] == "a"
        headers = said.properties["headers"]
        assert isinstance(headers, dict)
        assert sorted(headers) == ["CC", "kept"]
        assert client.get(queue, no_ack=True) is None, "one copy a queue"


@pytest.mark.parametrize("copies", ["a", 5, {"a": 1}, Typed("x", b"a")])
def test_carbon_copies_must_be_an_array(copies: object) -> None:
    """RabbitMQ docs, Sender-selected Distribution: 406."""
    client = Broker().open()
    client.publish("a", b"x", properties={"headers": {"CC": copies}})
    client.channel_error(406)


def test_a_route_changes_with_its_bindings() -> None:
    """What was remembered of earlier publishes must not outlive a bind, unbind, declare or delete."""
    client = Broker().open()
    client.ask("queue.declare", queue="q")
    assert reached(client, "amq.direct", "k", "q") == []
    client.ask("queue.bind", queue="q", exchange="amq.direct", routing_key="k")
    assert reached(client, "amq.direct", "k", "q") == ["q"]
    client.ask("queue.unbind", queue="q", exchange="amq.direct", routing_key="k")
    assert reached(client, "amq.direct", "k", "q") == []
    assert reached(client, "", "later", "q") == []
    client.ask("queue.declare", queue="later")
    assert reached(client, "", "later", "later") == ["later"]
    client.ask("queue.delete", queue="later")
    client.ask("queue.declare", queue="later")
    assert reached(client, "", "later", "later") == ["later"]


def test_what_is_no_string_among_the_carbon_copies_is_passed_over() -> None:
    """RabbitMQ `rabbit_basic:header_routes` picks the long strings."""
    client = Broker().open()
    client.ask("queue.declare", queue="a")
    assert reached(client, "", "nowhere", "a", properties={"headers": {"CC": [5, "a", None]}}) == ["a"]
