"""Class exchange: declare, delete, bind, unbind (AMQP 0-9-1 §1.6.3; RabbitMQ docs, Exchange to Exchange Bindings)."""

from typing import final

from pamqp import commands

from broker.auth.access import Requester
from broker.faults import FaultOwner
from broker.protocol.channel import Channel
from broker.protocol.holding import answer_when_declared
from broker.protocol.sliced import Deleting
from broker.turn import Deferred
from broker.vhost.bindings import Unbinding
from broker.vhost.rules import ExchangeDeclaration, refuse_default
from broker.wire import spec
from broker.wire.methods import Method, method_frame


def stripped(name: str) -> str:
    """A name without the carriage returns and line feeds that RabbitMQ takes out of names."""
    if "\r" in name or "\n" in name:
        return name.replace("\r", "").replace("\n", "")
    return name


def requester(channel: Channel) -> Requester:
    """Who asks for what comes on this channel."""
    return Requester(channel.session.access, channel.session)


def reply(channel: Channel, nowait: bool, index: int) -> None:
    """Answer with a method that has no fields, unless the client asked for silence."""
    if not nowait:
        channel.session.send(method_frame(int(channel.number), index, []))


@final
class Reply(Deferred):
    """The same for work that may take longer than a turn, once it is done (``Channel.carry_out``)."""

    def __init__(self, channel: Channel, index: int) -> None:
        self.channel = channel
        self.index = index

    def resume(self) -> None:
        reply(self.channel, False, self.index)

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


def reply_when_declared(channel: Channel, nowait: bool, index: int, durable: bool) -> None:
    """The same about something durable, but only when it would survive the node."""
    answer_when_declared(channel, _answer(channel, nowait, index), durable)


def _answer(channel: Channel, nowait: bool, index: int) -> bytes:
    return b"" if nowait else method_frame(int(channel.number), index, [])


def reply_when_unbound(channel: Channel, answer: bytes, durable: bool, unbinding: Unbinding | None) -> None:
    """Send ``answer``, which may be empty, when all bindings of what was deleted are undone and, if ``durable``, when
    that would survive the node; the channel's later frames wait."""
    if unbinding is None:
        answer_when_declared(channel, answer, durable)
        return
    deleting = Deleting(channel, unbinding)
    channel.carry_out(deleting, _Unbound(channel, deleting, answer, durable))


@final
class _Unbound(Deferred):
    """All bindings of what was deleted are undone."""

    def __init__(self, channel: Channel, deleting: Deleting, answer: bytes, durable: bool) -> None:
        self.channel = channel
        self.deleting = deleting
        self.answer = answer
        self.durable = durable

    def resume(self) -> None:
        answer_when_declared(self.channel, self.answer, self.durable)
        self.deleting.answered()

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner


def declare(channel: Channel, method: Method) -> None:
    """exchange.declare. Raises: 403, 404 (passive), 406 as ``Declaring.declare_exchange`` says."""
    fields = method.fields
    assert isinstance(fields, commands.Exchange.Declare)
    vhost = channel.session.vhost
    name = stripped(fields.exchange)
    if fields.passive:
        refuse_default(name)
        exchange = vhost.exchange(name)
    else:
        declared = ExchangeDeclaration(
            name, fields.exchange_type, fields.durable, fields.auto_delete, fields.internal, method.arguments
        )
        exchange = vhost.declaring.declare_exchange(declared, requester(channel))
    reply_when_declared(channel, fields.nowait, spec.EXCHANGE_DECLARE_OK, exchange.durable)


def delete(channel: Channel, method: Method) -> None:
    """exchange.delete; a missing one counts as deleted. Raises: 403 for a predeclared one, 406 if in use and
    if-unused."""
    fields = method.fields
    assert isinstance(fields, commands.Exchange.Delete)
    name = stripped(fields.exchange)
    deleted = channel.session.vhost.declaring.delete_exchange(name, requester(channel), fields.if_unused)
    reply_when_unbound(
        channel, _answer(channel, fields.nowait, spec.EXCHANGE_DELETE_OK), deleted.durable, deleted.unbinding
    )


def bind(channel: Channel, method: Method) -> None:
    """exchange.bind. Raises: 403 for the default exchange, 404, 406 for unusable arguments."""
    fields = method.fields
    assert isinstance(fields, commands.Exchange.Bind)
    vhost = channel.session.vhost
    names = (stripped(fields.source), stripped(fields.destination))
    vhost.declaring.check_binding(*names, True, fields.routing_key, requester(channel))
    source = vhost.exchange(names[0])
    destination = vhost.exchange(names[1])
    vhost.declaring.bind(source, destination, fields.routing_key, method.arguments)
    reply_when_declared(channel, fields.nowait, spec.EXCHANGE_BIND_OK, source.durable and destination.durable)


def unbind(channel: Channel, method: Method) -> None:
    """exchange.unbind; what is not there counts as unbound. Raises: 403 for the default exchange."""
    fields = method.fields
    assert isinstance(fields, commands.Exchange.Unbind)
    vhost = channel.session.vhost
    source = stripped(fields.source)
    destination = stripped(fields.destination)
    vhost.declaring.check_binding(source, destination, True, fields.routing_key, requester(channel))
    durable = False
    unbinding: Unbinding | None = None
    if source in vhost.exchanges and destination in vhost.exchanges:
        durable = vhost.exchanges[source].durable and vhost.exchanges[destination].durable
        unbinding = vhost.declaring.unbind(
            vhost.exchanges[source], vhost.exchanges[destination], fields.routing_key, method.arguments
        )
    reply_when_unbound(channel, _answer(channel, fields.nowait, spec.EXCHANGE_UNBIND_OK), durable, unbinding)
