"""(class id, method id) -> handler: the table of contents of the protocol, for the methods of a channel that are not
hot."""

import contextlib
from collections.abc import Callable
from typing import Final, final

from pamqp import commands

from broker.errors import NOT_IMPLEMENTED, ChannelException, ConnectionException, ProtocolException
from broker.faults import FaultOwner
from broker.protocol import basic_methods, exchange_methods, queue_methods, tx_methods
from broker.protocol.channel import Channel, unimplemented
from broker.protocol.dispatching import Dispatching
from broker.queues.queue import Queue
from broker.turn import Deferred, SlicedWork
from broker.wire import spec
from broker.wire.methods import Method, method_frame


def _flow(channel: Channel, method: Method) -> None:
    fields = method.fields
    assert isinstance(fields, commands.Channel.Flow)
    if not fields.active:
        raise ConnectionException(NOT_IMPLEMENTED, "active=false")
    channel.session.send(method_frame(int(channel.number), spec.CHANNEL_FLOW_OK, [("octet", 1)]))


def _access_request(channel: Channel, method: Method) -> None:
    channel.session.send(method_frame(int(channel.number), spec.ACCESS_REQUEST_OK, [("short", 1)]))


HANDLERS: Final[dict[int, Callable[[Channel, Method], None]]] = {
    spec.CHANNEL_FLOW: _flow,
    spec.ACCESS_REQUEST: _access_request,
    spec.EXCHANGE_DECLARE: exchange_methods.declare,
    spec.EXCHANGE_DELETE: exchange_methods.delete,
    spec.EXCHANGE_BIND: exchange_methods.bind,
    spec.EXCHANGE_UNBIND: exchange_methods.unbind,
    spec.QUEUE_DECLARE: queue_methods.declare,
    spec.QUEUE_BIND: queue_methods.bind,
    spec.QUEUE_UNBIND: queue_methods.unbind,
    spec.QUEUE_PURGE: queue_methods.purge,
    spec.QUEUE_DELETE: queue_methods.delete,
    spec.BASIC_QOS: basic_methods.qos,
    spec.BASIC_CONSUME: basic_methods.consume,
    spec.BASIC_CANCEL: basic_methods.cancel,
    spec.BASIC_GET: basic_methods.get,
    spec.BASIC_RECOVER: basic_methods.recover,
    spec.BASIC_RECOVER_ASYNC: basic_methods.recover_async,
    spec.CONFIRM_SELECT: tx_methods.confirm_select,
    spec.TX_SELECT: tx_methods.tx_select,
    spec.TX_COMMIT: tx_methods.tx_commit,
    spec.TX_ROLLBACK: tx_methods.tx_rollback,
}

_ONE_GROUP: Final = frozenset(
    {spec.EXCHANGE_DELETE, spec.EXCHANGE_UNBIND, spec.QUEUE_UNBIND, spec.QUEUE_PURGE, spec.QUEUE_DELETE, spec.TX_COMMIT}
)
"""Methods that may take many turns, and are one commit group of the log."""


def _of_name(channel: Channel, method: Method) -> list[Queue]:
    fields = method.fields
    assert isinstance(
        fields, (commands.Basic.Consume, commands.Queue.Declare, commands.Queue.Purge, commands.Queue.Delete)
    )
    queue = channel.session.vhost.queues.get(exchange_methods.stripped(fields.queue) or channel.last_queue)
    return [] if queue is None else [queue]


def _of_cancel(channel: Channel, method: Method) -> list[Queue]:
    fields = method.fields
    assert isinstance(fields, commands.Basic.Cancel)
    queue = channel.queue_of.get(fields.consumer_tag or "")
    return [] if queue is None else [queue]


def _of_qos(channel: Channel, method: Method) -> list[Queue]:
    fields = method.fields
    assert isinstance(fields, commands.Basic.Qos)
    return channel.consumed_queues() if fields.global_ else []


_QUEUES_OF: Final[dict[int, Callable[[Channel, Method], list[Queue]]]] = {
    spec.BASIC_CONSUME: _of_name,
    spec.BASIC_CANCEL: _of_cancel,
    spec.BASIC_QOS: _of_qos,
    spec.QUEUE_DECLARE: _of_name,
    spec.QUEUE_PURGE: _of_name,
    spec.QUEUE_DELETE: _of_name,
}
"""Methods that come behind what was published before them, and the queues that this is about; basic.get and
basic.recover see to it themselves."""


def handle(channel: Channel, method: Method) -> None:
    """Carry out a method of an open channel.

    Raises: COMMAND_INVALID (503) for methods that a server does not take, and whatever the handler raises.
    """
    queues_of = _QUEUES_OF.get(method.index)
    if queues_of is None:
        _handle_dispatched(channel, method)
        return
    window = channel.window
    if window is not None:
        window.dispatch_some()
    dispatching = Dispatching(channel.session.turn, queues_of(channel, method), channel.session.owner)
    if dispatching.step():
        _handle_dispatched(channel, method)
        return
    wait = _Wait(channel, method, dispatching)
    channel.carry_out(wait, wait.then)


def _handle_dispatched(channel: Channel, method: Method) -> None:
    handler = HANDLERS.get(method.index)
    if handler is None:
        raise unimplemented(method.index)
    if method.index in _ONE_GROUP and _group_is_taken(channel):
        wait = _Wait(channel, method, None)
        channel.carry_out(wait, wait.then)
        return
    handler(channel, method)


def _group_is_taken(channel: Channel) -> bool:
    logs = channel.session.logs
    return logs is not None and logs.promises.is_held_for_long()


@final
class _Wait(SlicedWork):
    """A method before which queues have to be dispatched; or one that has to be one commit group, while others have
    held the open one for so long that it is to be handed over first.

    Otherwise methods of several clients that overlap would hold it without end, and whoever waits for a confirm would
    never hear of it.
    """

    def __init__(self, channel: Channel, method: Method, dispatching: Dispatching | None) -> None:
        self.then = _Again(channel, method)
        self._dispatching = dispatching

    def step(self) -> bool:
        dispatching = self._dispatching
        if dispatching is not None:
            if not dispatching.step():
                return False
            self._dispatching = None
        channel = self.then.channel
        is_one_group = self.then.method.index in _ONE_GROUP
        if is_one_group and _group_is_taken(channel):
            return False
        if is_one_group and channel.closing:  # nothing comes after it any more, but it was asked for before
            with contextlib.suppress(ChannelException, ConnectionException):
                self.then.resume()
        return True

    def fault_owner(self) -> FaultOwner | None:
        return self.then.fault_owner()


@final
class _Again(Deferred):
    def __init__(self, channel: Channel, method: Method) -> None:
        self.channel = channel
        self.method = method

    def resume(self) -> None:
        try:
            _handle_dispatched(self.channel, self.method)
        except ProtocolException as error:
            error.name_method(self.method.index)
            raise

    def fault_owner(self) -> FaultOwner | None:
        return self.channel.session.owner
