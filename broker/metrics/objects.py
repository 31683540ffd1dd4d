"""Series for each object: the families of ``/metrics/detailed`` and ``/metrics/per-object``, as RabbitMQ's plugin names
them.

Written as text at once, a family at a time: prometheus_client takes many times as long for the series of 10,000 queues.
Objects are looked at in slices, between which messages flow; of a family all metrics are read together. An object to
which nothing has happened has no counters, as in RabbitMQ.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from broker.queues.quorum.queue import QuorumQueue
from broker.stats import ChannelFigures, QueueFigures

if TYPE_CHECKING:
    from broker.protocol.channel import Channel
    from broker.protocol.connection import Connection
    from broker.protocol.server import Server
    from broker.queues.queue import Queue
    from broker.routing.exchange import Exchange

_SLICE: Final = 200
"""Objects that are looked at before the loop goes on with messages: less than a millisecond."""
CLUSTER_PREFIX: Final = "rabbitmq_cluster_"


class Metric(NamedTuple):
    """One metric of a family."""

    name: str
    """Without a prefix."""
    kind: str
    help: str


class Row(NamedTuple):
    """What one object has to say: its labels, and a value for each metric of the family."""

    labels: str
    values: tuple[int, ...] | tuple[float, ...]


class Family(NamedTuple):
    """What ``?family=`` names."""

    name: str
    metrics: tuple[Metric, ...]
    objects: Callable[[Server, Collection[str]], Iterator[Any]]
    """All that is looked at, of these virtual hosts."""
    row: Callable[[Any], Row | None]
    """None if there is nothing to say of it."""
    prefix: str = ""
    """Instead of the page's."""


def labels(**values: str) -> str:
    """Labels as they stand in a series (Prometheus docs, Exposition formats); octets that are no UTF-8 in
    hexadecimal."""
    shown: list[str] = []
    for name, value in values.items():
        text = value.encode("utf-8", "backslashreplace").decode()
        text = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        shown.append(f'{name}="{text}"')
    return ",".join(shown)


def _queues(server: Server, vhosts: Collection[str]) -> Iterator[tuple[str, Queue]]:
    for name in vhosts:
        for queue in list(server.vhosts[name].queues.values()):
            yield name, queue


def _exchanges(server: Server, vhosts: Collection[str]) -> Iterator[tuple[str, Exchange]]:
    for name in vhosts:
        for exchange in list(server.vhosts[name].exchanges.values()):
            yield name, exchange


def _connections(server: Server, vhosts: Collection[str]) -> Iterator[Connection]:
    return (each for each in list(server.connections.values()) if each.session.vhost.name in vhosts)


def _channels(server: Server, vhosts: Collection[str]) -> Iterator[tuple[Connection, Channel]]:
    for connection in _connections(server, vhosts):
        for channel in list(connection.channels.values()):
            yield connection, channel


def _vhosts(server: Server, vhosts: Collection[str]) -> Iterator[str]:
    return iter(vhosts)


def _of_queue(found: tuple[str, Queue]) -> str:
    return labels(vhost=found[0], queue=found[1].name)


def _depth(found: tuple[str, Queue]) -> Row:
    ready = int(found[1].ready_count())
    unacked = int(found[1].unacked)
    return Row(_of_queue(found), (ready, unacked, ready + unacked + int(found[1].set_aside_count())))


def _consumers(found: tuple[str, Queue]) -> Row:
    return Row(_of_queue(found), (found[1].consumers.count(),))


def _queue(found: tuple[str, Queue]) -> Row:
    consumers = found[1].consumers
    capacity = 1 if consumers.group() is not None else 0
    return Row(_of_queue(found), (consumers.count(), capacity, capacity))


def _queue_info(found: tuple[str, Queue]) -> Row:
    vhost, queue = found
    shown = labels(vhost=vhost, queue=queue.name, queue_type=f"rabbit_{queue.type.name}_queue", membership="leader")
    return Row(shown, (1,))


def _raft(found: tuple[str, Queue]) -> Row | None:
    queue = found[1]
    if not isinstance(queue, QuorumQueue):
        return None
    figures = queue.replica.figures()
    latency: float = figures.commit_latency_us / 1_000_000
    indexes = (figures.commit_index, figures.last_applied, figures.last_written_index, figures.snapshot_index)
    told: tuple[float, ...] = (figures.term, *indexes, latency)
    return Row(_of_queue(found), told * 2)


def _deliveries_of(figures: QueueFigures | ChannelFigures) -> tuple[int, ...]:
    return (
        figures.get,
        figures.get_no_ack,
        figures.deliver,
        figures.deliver_no_ack,
        figures.redeliver,
        figures.ack,
        figures.get_empty,
    )


def _queue_deliveries(found: tuple[str, Queue]) -> Row | None:
    figures = found[1].figures
    return None if figures is None else Row(_of_queue(found), _deliveries_of(figures))


def _queue_published(found: tuple[str, Queue]) -> Row | None:
    figures = found[1].figures
    return None if figures is None else Row(_of_queue(found), (figures.publish,))


def _exchange(found: tuple[str, Exchange]) -> Row | None:
    vhost, exchange = found
    figures = exchange.figures
    if figures is None:
        return None
    values = (figures.publish_in, figures.return_unroutable, figures.drop_unroutable)
    return Row(labels(vhost=vhost, exchange=exchange.name), values)


def _of_channel(found: tuple[Connection, Channel]) -> str:
    return labels(channel=f"{found[0].session.name} ({found[1].number})")


def _channel(found: tuple[Connection, Channel]) -> Row:
    channel = found[1]
    confirms, window, transaction = channel.confirms, channel.window, channel.transaction
    values = (
        len(channel.consumers),
        int(channel.unacked.count),
        0 if confirms is None else confirms.unconfirmed,
        0 if transaction is None else len(transaction.pending),
        0 if transaction is None else len(transaction.settlements),
        int(channel.prefetch_new),
        0 if window is None else int(window.size),
    )
    return Row(_of_channel(found), values)


def _channel_publishes(found: tuple[Connection, Channel]) -> Row | None:
    figures = found[1].figures
    if figures is None:
        return None
    values = (figures.publish, figures.confirm, figures.return_unroutable, figures.drop_unroutable)
    return Row(_of_channel(found), values)


def _channel_deliveries(found: tuple[Connection, Channel]) -> Row | None:
    figures = found[1].figures
    return None if figures is None else Row(_of_channel(found), _deliveries_of(figures))


def _of_connection(connection: Connection) -> str:
    return labels(channel=connection.session.name)  # the plugin's name for it


def _connection_bytes(connection: Connection) -> Row:
    sent = int(connection.session.outbox.bytes_written)
    return Row(_of_connection(connection), (int(connection.input.bytes_received), sent))


def _connection(connection: Connection) -> Row:
    return Row(_of_connection(connection), (len(connection.channels),))


def _vhost(name: str) -> Row:
    return Row(labels(vhost=name), (1,))


def _bindings(found: tuple[str, Exchange]) -> Row:
    vhost, exchange = found
    return Row(labels(vhost=vhost, exchange=exchange.name, type=exchange.type_name), (exchange.binding_count,))


def _counters(*names: tuple[str, str]) -> tuple[Metric, ...]:
    return tuple(Metric(f"{name}_total", "counter", text) for name, text in names)


def _gauges(*names: tuple[str, str]) -> tuple[Metric, ...]:
    return tuple(Metric(name, "gauge", text) for name, text in names)


def _deliveries(get: str, rest: str) -> tuple[Metric, ...]:
    return _counters(
        (f"{get}_get_ack", "Messages fetched with basic.get in manual acknowledgement mode"),
        (f"{get}_get", "Messages fetched with basic.get in automatic acknowledgement mode"),
        (f"{rest}_delivered_ack", "Messages delivered to consumers in manual acknowledgement mode"),
        (f"{rest}_delivered", "Messages delivered to consumers in automatic acknowledgement mode"),
        (f"{rest}_redelivered", "Messages redelivered to consumers"),
        (f"{rest}_acked", "Messages acknowledged by consumers"),
        (f"{get}_get_empty", "basic.get operations that fetched no message"),
    )


_PUBLISHED: Final = "Messages published"
_RETURNED: Final = "Messages published as mandatory that could not be routed"
_DROPPED: Final = "Messages published as non-mandatory that could not be routed"
_CONSUMERS: Final = ("queue_consumers", "Consumers on a queue")

FAMILIES: Final = (
    Family(
        "queue_coarse_metrics",
        _gauges(
            ("queue_messages_ready", "Messages ready to be delivered to consumers"),
            ("queue_messages_unacked", "Messages delivered to consumers but not yet acknowledged"),
            ("queue_messages", "Sum of ready and unacknowledged messages"),
        ),
        _queues,
        _depth,
    ),
    Family("queue_consumer_count", _gauges(_CONSUMERS), _queues, _consumers),
    Family(
        "queue_metrics",
        _gauges(
            _CONSUMERS,
            ("queue_consumer_capacity", "Consumer capacity"),
            ("queue_consumer_utilisation", "Same as consumer capacity"),
        ),
        _queues,
        _queue,
    ),
    Family("queue_metrics", _gauges(("queue_info", "Queue type and membership")), _queues, _queue_info),
    Family(
        "ra_metrics",
        (
            *_gauges(
                ("raft_term", "Current term of a quorum queue's Raft group"),
                ("raft_commit_index", "Index of the last committed entry"),
                ("raft_last_applied", "Index of the last entry that was applied to the queue"),
                ("raft_last_written_index", "Index of the last entry that is on the disk"),
                ("raft_snapshot_index", "Index of the last entry that a snapshot stands for; -1 without one"),
                ("raft_commit_latency_seconds", "Time from the proposal of an entry until it was applied"),
            ),
            # the names before RabbitMQ 4; a counter there, whose family would be that of raft_term
            *_gauges(
                ("raft_term_total", "Current Raft term number"),
                ("raft_log_commit_index", "Raft log commit index"),
                ("raft_log_last_applied_index", "Raft log last applied index"),
                ("raft_log_last_written_index", "Raft log last written index"),
                ("raft_log_snapshot_index", "Raft log snapshot index"),
                ("raft_entry_commit_latency_seconds", "Time taken for a log entry to be committed"),
            ),
        ),
        _queues,
        _raft,
    ),
    Family("queue_delivery_metrics", _deliveries("queue", "queue_messages"), _queues, _queue_deliveries),
    Family(
        "channel_queue_exchange_metrics",
        _counters(("queue_messages_published", "Messages published to a queue")),
        _queues,
        _queue_published,
    ),
    Family(
        "exchange_metrics",
        _counters(
            ("exchange_messages_published", "Messages published to an exchange"),
            ("exchange_messages_unroutable_returned", _RETURNED),
            ("exchange_messages_unroutable_dropped", _DROPPED),
        ),
        _exchanges,
        _exchange,
    ),
    Family(
        "channel_metrics",
        _gauges(
            ("channel_consumers", "Consumers on a channel"),
            ("channel_messages_unacked", "Delivered but not yet acknowledged messages"),
            ("channel_messages_unconfirmed", "Published but not yet confirmed messages"),
            ("channel_messages_uncommitted", "Messages received in a transaction but not yet committed"),
            ("channel_acks_uncommitted", "Acknowledgements in a transaction not yet committed"),
            ("consumer_prefetch", "Limit of unacknowledged messages for each consumer"),
            ("channel_prefetch", "Total limit of unacknowledged messages for all consumers on a channel"),
        ),
        _channels,
        _channel,
    ),
    Family(
        "channel_exchange_metrics",
        _counters(
            ("channel_messages_published", _PUBLISHED),
            ("channel_messages_confirmed", "Messages confirmed"),
            ("channel_messages_unroutable_returned", _RETURNED),
            ("channel_messages_unroutable_dropped", _DROPPED),
        ),
        _channels,
        _channel_publishes,
    ),
    Family("channel_queue_metrics", _deliveries("channel", "channel_messages"), _channels, _channel_deliveries),
    Family(
        "connection_coarse_metrics",
        _counters(
            ("connection_incoming_bytes", "Bytes received on a connection"),
            ("connection_outgoing_bytes", "Bytes sent on a connection"),
        ),
        _connections,
        _connection_bytes,
    ),
    Family(
        "connection_metrics", _gauges(("connection_channels", "Channels on a connection")), _connections, _connection
    ),
)
"""Of both pages."""
CLUSTER_FAMILIES: Final = (
    Family(
        "vhost_status", _gauges(("vhost_status", "Whether a virtual host is running")), _vhosts, _vhost, CLUSTER_PREFIX
    ),
    Family(
        "exchange_bindings",
        _gauges(("exchange_bindings", "Bindings of an exchange")),
        _exchanges,
        _bindings,
        CLUSTER_PREFIX,
    ),
)
"""Of ``/metrics/detailed`` alone."""


async def page_of(
    server: Server, families: Collection[Family], vhosts: Collection[str], prefix: str
) -> AsyncIterator[str]:
    """These families, of the objects in these virtual hosts. A metric that is in two families is told once."""
    told: set[str] = set()
    for family in families:
        wanted = [index for index, metric in enumerate(family.metrics) if metric.name not in told]
        told.update(metric.name for metric in family.metrics)
        lines: list[list[str]] = []
        names: list[str] = []
        for index in wanted:
            metric = family.metrics[index]
            name = f"{family.prefix or prefix}{metric.name}"
            names.append(name)
            lines.append([f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n"])
        present = [vhost for vhost in vhosts if vhost in server.vhosts]
        for count, found in enumerate(family.objects(server, present), 1):
            row = family.row(found)
            if row is not None:
                for place, index in enumerate(wanted):
                    lines[place].append(f"{names[place]}{{{row.labels}}} {row.values[index]}\n")
            if count % _SLICE == 0:
                await asyncio.sleep(0)
        for part in lines:
            for start in range(0, len(part), _SLICE):
                yield "".join(part[start : start + _SLICE])
