"""A virtual host without connections (broker/vhost): declaring, binding, routes, and what is forgotten."""

from __future__ import annotations

import pytest

from broker.destination import MessageTarget
from broker.errors import (
    ACCESS_REFUSED,
    FRAME_ERROR,
    NOT_FOUND,
    NOT_IMPLEMENTED,
    PRECONDITION_FAILED,
    RESOURCE_LOCKED,
    ChannelException,
    ConnectionException,
)
from broker.message import ACCEPTED, PENDING, Message
from broker.promises import PromiseSources
from broker.vhost.names import generate_name
from broker.vhost.publishing import PENDING_ELSEWHERE, PENDING_USUALLY, REFUSED, publish
from broker.vhost.rules import ExchangeDeclaration
from broker.vhost.vhost import VHost
from broker.wire.table import EMPTY
from tests.support.fakes import FULL, arguments, make_message, requester, text_of
from tests.support.memory import Broker
from tests.support.wire import method_payload
from tests.toys.promising import ToySource

ME, YOU = requester(), requester()


def made() -> VHost:
    return Broker().vhost


def publishing(exchange: str, key: str, **bits: bool) -> bytes:
    """The arguments of a basic.publish."""
    return method_payload("basic.publish", exchange=exchange, routing_key=key, **bits)[4:]


def targets(vhost: VHost, exchange: str, key: str) -> list[str]:
    queues = vhost.publishing.route(publishing(exchange, key), FULL).targets
    assert queues is not None
    return [queue.name for queue in queues]


def code(raised: pytest.ExceptionInfo[ChannelException]) -> int:
    return raised.value.code


def test_generated_names_are_unguessable() -> None:
    """AMQP 0-9-1 queue.declare, rule "default-name"."""
    names = {generate_name("amq.gen-") for _ in range(1000)}
    assert len(names) == 1000
    assert {len(name) for name in names} == {8 + 22}


def test_a_queue_is_created_once() -> None:
    broker = Broker()
    vhost = broker.vhost
    queue, created = vhost.declaring.declare_queue("q", True, False, False, EMPTY, ME)
    again, created_again = vhost.declaring.declare_queue("q", True, False, False, EMPTY, YOU)
    assert again is queue
    assert (created, created_again, broker.server.counters.queues_created) == (True, False, 1)
    assert vhost.queue("q", YOU) is queue


def test_exclusive_queues_have_an_owner() -> None:
    """RabbitMQ docs, Queues, Exclusive Queues."""
    vhost = made()
    queue, _ = vhost.declaring.declare_queue("q", True, True, False, EMPTY, ME)
    assert (queue.owner, queue.durable) == (ME.owner, False)
    assert vhost.queue("q", ME) is queue
    for attempt in (
        lambda: vhost.queue("q", YOU),
        lambda: vhost.declaring.declare_queue("q", True, True, False, EMPTY, YOU),
    ):
        with pytest.raises(ChannelException) as raised:
            attempt()
        assert code(raised) == RESOURCE_LOCKED


@pytest.mark.parametrize(
    ("durable", "auto_delete", "given", "refusal"),
    [
        (False, False, {}, PRECONDITION_FAILED),
        (True, True, {}, PRECONDITION_FAILED),
        (True, False, {"x_expires": 5}, PRECONDITION_FAILED),
    ],
)
def test_a_declaration_must_be_equivalent(
    durable: bool, auto_delete: bool, given: dict[str, object], refusal: int
) -> None:
    vhost = made()
    vhost.declaring.declare_queue("q", True, False, False, EMPTY, ME)
    with pytest.raises(ChannelException) as raised:
        vhost.declaring.declare_queue("q", durable, False, auto_delete, arguments(**given), ME)
    assert code(raised) == refusal


def test_nothing_is_left_of_a_declaration_that_failed() -> None:
    vhost = made()
    with pytest.raises(ChannelException):
        vhost.declaring.declare_queue("q", False, False, False, arguments(x_max_length=-1), ME)
    with pytest.raises(ChannelException):
        vhost.declaring.declare_exchange(ExchangeDeclaration("x", "z", False, False, False, EMPTY), ME)
    assert vhost.queues == {}
    assert "x" not in vhost.exchanges


def test_what_is_not_there() -> None:
    vhost = made()
    for attempt in (
        lambda: vhost.queue("q", ME),
        lambda: vhost.exchange("x"),
        lambda: vhost.publishing.route(publishing("x", "k"), FULL),
    ):
        with pytest.raises(ChannelException) as raised:
            attempt()
        assert code(raised) == NOT_FOUND


def test_routes_follow_the_bindings() -> None:
    vhost = made()
    one, _ = vhost.declaring.declare_queue("one", False, False, False, EMPTY, ME)
    two, _ = vhost.declaring.declare_queue("two", False, False, False, EMPTY, ME)
    source = vhost.exchange("amq.topic")
    assert targets(vhost, "amq.topic", "a.b") == []
    vhost.declaring.bind(source, one, "a.*", EMPTY)
    vhost.declaring.bind(source, two, "#", EMPTY)
    assert sorted(targets(vhost, "amq.topic", "a.b")) == ["one", "two"]
    vhost.declaring.unbind(source, two, "#", EMPTY)
    assert targets(vhost, "amq.topic", "a.b") == ["one"]
    vhost.remove_queue(one)
    assert targets(vhost, "amq.topic", "a.b") == []
    assert source.bindings() == []


def test_a_route_is_found_again_until_something_changes() -> None:
    vhost = made()
    data = publishing("amq.direct", "k")
    route = vhost.publishing.route(data, FULL)
    assert vhost.publishing.route(data, FULL) is route
    queue, _ = vhost.declaring.declare_queue("q", False, False, False, EMPTY, ME)
    assert vhost.publishing.route(data, FULL) is route, "nothing that it goes through has changed"
    vhost.declaring.bind(vhost.exchange("amq.direct"), queue, "other", EMPTY)
    assert vhost.publishing.route(data, FULL) is not route


def test_routes_that_are_remembered_are_bounded() -> None:
    """RabbitMQ's security advisories: a cache keyed by what clients send has an end."""
    vhost = made()
    for number in range(50_000):
        vhost.publishing.route(publishing("amq.direct", f"key-{number}"), FULL)
    assert vhost.publishing.routes_known() <= 20_000


def test_a_route_knows_whether_it_is_mandatory() -> None:
    vhost = made()
    assert [
        vhost.publishing.route(publishing("", "q", mandatory=mandatory), FULL).mandatory for mandatory in (False, True)
    ] == [False, True]


def test_immediate_is_not_implemented() -> None:
    """RabbitMQ docs, Specification, immediate."""
    with pytest.raises(ConnectionException) as raised:
        made().publishing.route(publishing("", "q", immediate=True), FULL)
    assert (raised.value.code, raised.value.explanation) == (NOT_IMPLEMENTED, "immediate=true")


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00\x00", b"\x00\x00\x05abc", b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\x00", b"\x00\x00\xff\x00\x00"],
)
def test_arguments_that_do_not_fit_are_a_frame_error(data: bytes) -> None:
    with pytest.raises(ConnectionException) as raised:
        made().publishing.route(data, FULL)
    assert raised.value.code == FRAME_ERROR


def test_internal_exchanges_are_not_published_to() -> None:
    vhost = made()
    vhost.declaring.declare_exchange(ExchangeDeclaration("x", "fanout", False, False, True, EMPTY), ME)
    with pytest.raises(ChannelException) as raised:
        vhost.publishing.route(publishing("x", ""), FULL)
    assert code(raised) == ACCESS_REFUSED


def test_reserved_names() -> None:
    """AMQP 0-9-1, rule "reserved"."""
    vhost = made()
    with pytest.raises(ChannelException) as raised:
        vhost.declaring.declare_queue("amq.q", False, False, False, EMPTY, ME)
    assert code(raised) == ACCESS_REFUSED
    with pytest.raises(ChannelException) as raised:
        vhost.declaring.declare_exchange(ExchangeDeclaration("amq.x", "direct", False, False, False, EMPTY), ME)
    assert code(raised) == ACCESS_REFUSED


def test_routes_to_many_queues_are_forgotten_before_they_are_too_many() -> None:
    """20,000 routes to 1,000 queues each would be 160 MB, and take a tenth of a second to forget."""
    vhost = made()
    source = vhost.exchange("amq.fanout")
    for number in range(1000):
        vhost.declaring.bind(
            source, vhost.declaring.declare_queue(f"q{number}", False, False, False, EMPTY, ME)[0], "", EMPTY
        )
    most = 0
    for number in range(100):
        assert len(targets(vhost, "amq.fanout", f"key-{number}")) == 1000
        most = max(most, vhost.publishing.routes_known())
    assert 10 <= most <= 20


def test_bindings_to_a_destination_are_found() -> None:
    vhost = made()
    queue, _ = vhost.declaring.declare_queue("q", False, False, False, EMPTY, ME)
    vhost.declaring.bind(vhost.exchange("amq.direct"), queue, "a", EMPTY)
    vhost.declaring.bind(vhost.exchange("amq.direct"), queue, "b", EMPTY)
    vhost.declaring.bind(vhost.exchange("amq.fanout"), queue, "", EMPTY)
    assert sorted((each.source.name, each.key) for each in vhost.bindings.to(queue)) == [
        ("amq.direct", "a"),
        ("amq.direct", "b"),
        ("amq.fanout", ""),
    ]
    vhost.remove_queue(queue)
    assert vhost.bindings.to(queue) == []


def test_deleting_twice_does_no_harm() -> None:
    broker = Broker()
    vhost = broker.vhost
    queue, _ = vhost.declaring.declare_queue("q", False, False, False, EMPTY, ME)
    queue.enqueue(make_message(b"x"))
    assert vhost.declaring.remove_queue(queue).messages == 1
    again = vhost.declaring.remove_queue(queue)
    assert (again.messages, again.unbinding) == (0, None)
    assert broker.server.counters.queues_deleted == 1


def test_a_message_is_delivered_to_all_its_queues() -> None:
    """RabbitMQ docs, Publisher Confirms: that one refuses does not keep it from the others."""
    vhost = made()
    full, _ = vhost.declaring.declare_queue(
        "full", False, False, False, arguments(x_max_length=0, x_overflow="reject-publish"), ME
    )
    plain, _ = vhost.declaring.declare_queue("plain", False, False, False, EMPTY, ME)
    source = vhost.exchange("").stirred(vhost.sampler)
    assert publish(source, [full, plain], make_message(b"x"), None) == REFUSED
    assert publish(source, [plain], make_message(b"y"), None) == 0
    vhost.declaring.remove_queue(full)
    assert publish(source, [full, plain], make_message(b"z"), None) == 0, "what is deleted is passed over"
    bodies = []
    while (entry := plain.get(True)) is not None:
        bodies.append(text_of(entry.message))
    assert bodies == ["x", "y", "z"]


class Pending(MessageTarget):
    """Its messages are kept by a source of promises."""

    def enqueue(self, message: Message) -> int:
        return PENDING


class Taking(MessageTarget):
    """It needs no source."""

    def enqueue(self, message: Message) -> int:
        return ACCEPTED


def test_a_publisher_learns_whom_it_has_to_ask() -> None:
    vhost = made()
    source = vhost.exchange("").stirred(vhost.sampler)
    queues: list[MessageTarget] = [Pending("a"), Pending("b"), Taking("c"), Pending("d")]
    one, other = ToySource(), ToySource()
    queues[0].promises = one
    queues[1].promises = queues[3].promises = other
    asked = PromiseSources()
    message = make_message(b"x")
    assert publish(source, queues, message, asked) == PENDING_ELSEWHERE
    assert asked.take_others() == [one, other]
    asked.usual = other
    assert publish(source, queues, message, asked) == PENDING_ELSEWHERE | PENDING_USUALLY
    assert asked.take_others() == [one]
    assert publish(source, queues[1:], message, asked) == PENDING_USUALLY
    assert publish(source, queues[2:3], message, asked) == 0
    assert asked.take_others() == []
    assert publish(source, queues, message, None) == PENDING_USUALLY, "nobody is to be asked"


def test_direct_replies_reach_their_token_until_it_is_gone() -> None:
    vhost = made()
    queue, _ = vhost.declaring.declare_queue("stands-in", False, False, False, EMPTY, ME)
    vhost.publishing.add_reply_target("token", queue)
    assert targets(vhost, "", "amq.rabbitmq.reply-to.token") == ["stands-in"]
    assert targets(vhost, "", "amq.rabbitmq.reply-to.other") == []
    vhost.publishing.remove_reply_target("token")
    vhost.publishing.remove_reply_target("token")
    assert targets(vhost, "", "amq.rabbitmq.reply-to.token") == []
