"""The Prometheus page: RabbitMQ's metric names, read from counters at scrape time.

One table: name, kind, labels, help, and how to read it. Names, labels and meanings are those of RabbitMQ's
`rabbitmq_prometheus` plugin, so its dashboards work unchanged; every panel of theirs multiplies by
``rabbitmq_identity_info``. Read by ``app.py``, whose import waits for the first request: until then a node does not
carry prometheus_client.
"""

from __future__ import annotations

import asyncio
import functools
import os
import resource
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from broker.alarms import DISK, MEMORY
from broker.counters import add_counts
from broker.metrics.queue_types import DELIVERIES, by_type
from broker.native import i64
from broker.queues.arguments import CLASSIC
from broker.stopwatch import BOUNDS_US
from broker.watermarks import UNKNOWN, resident_bytes

if TYPE_CHECKING:
    from broker.protocol.server import Server

_PROTOCOL: Final = {"protocol": "amqp091"}
_DEAD_LETTER: Final = {"queue_type": "rabbit_classic_queue", "dead_letter_strategy": "at_most_once"}
_KEPT: Final = {"queue_type": "rabbit_quorum_queue", "dead_letter_strategy": "at_least_once"}
_SLICE: Final = 500
"""Objects that are looked at before the loop goes on with messages: less than a millisecond."""


@functools.cache
def _client_version() -> str:
    """Of the library that writes the page: asked once, since the answer is read from files."""
    return metadata.version("prometheus-client")


AGGREGATED: Final = "aggregated"
"""How ``rabbitmq_identity_info`` calls the page ``/metrics``; the others are called by their paths."""
PER_OBJECT: Final = "per-object"
DETAILED: Final = "detailed"
_OF_OBJECTS: Final = frozenset(
    {"rabbitmq_queue_messages_ready", "rabbitmq_queue_messages_unacked", "rabbitmq_queue_messages"}
)
"""Sums that have the name of what a page by object says of each queue."""


class Totals(NamedTuple):
    """What one walk over channels and queues adds up."""

    channels: int
    consumers: int
    publishers: int
    queues: int
    ready: int
    unacked: int
    others: int
    """Messages of quorum queues that are neither: they wait for a retry, or are dead letters that stay."""
    deliveries: dict[str, list[int]]
    """Of the queues of each type but classic that are there, as ``Counters.of_deleted``."""


class Row(NamedTuple):
    """One metric of the page."""

    name: str
    kind: str
    labels: dict[str, str]
    help: str
    read: Callable[[Server, Totals], float | i64 | None]
    """None if this node has no such figure: then the page leaves it out."""


async def totals_of(server: Server) -> Totals:
    """Sums over all connections and queues of the node, in slices: a node with 100,000 queues must not stand still for
    a scrape."""
    consumers = publishers = queues = ready = unacked = others = 0
    found: dict[str, list[int]] = {}
    for vhost in list(server.vhosts.values()):
        queues += len(vhost.queues)
        for index, queue in enumerate(list(vhost.queues.values()), 1):
            ready += queue.ready_count()
            unacked += queue.unacked
            others += int(queue.set_aside_count())
            if queue.figures is not None and queue.type.name != CLASSIC:
                add_counts(found, queue.type.label, queue.figures.deliveries())
            consumers += queue.consumers.count()
            if index % _SLICE == 0:
                await asyncio.sleep(0)
    for index, connection in enumerate(list(server.connections.values()), 1):
        publishers += sum(channel.is_publisher for channel in connection.channels.values())
        if index % _SLICE == 0:
            await asyncio.sleep(0)
    return Totals(server.channels_open, consumers, publishers, queues, ready, unacked, others, found)


def _known(figure: int, unknown: int) -> float | None:
    return None if figure == unknown else figure


def _open_files(_: Server, __: Totals) -> float:
    return len(os.listdir("/proc/self/fd")) - 1  # the one that lists them


def _files_max(_: Server, __: Totals) -> float:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _uptime(server: Server, _: Totals) -> float:
    return (server.clock.monotonic_ms() - server.started_ms) / 1000


def _dead_lettered(how: str, labels: dict[str, str], words: str, read: Callable[[Server, Totals], float]) -> Row:
    return Row(
        f"rabbitmq_global_messages_dead_lettered_{how}", "counter", labels, f"Messages dead-lettered {words}", read
    )


TABLE: Final = (
    Row("rabbitmq_connections", "gauge", {}, "Connections currently open", lambda s, t: len(s.connections)),
    Row("rabbitmq_channels", "gauge", {}, "Channels currently open", lambda s, t: t.channels),
    Row("rabbitmq_consumers", "gauge", {}, "Consumers currently connected", lambda s, t: t.consumers),
    Row("rabbitmq_queues", "gauge", {}, "Queues available", lambda s, t: t.queues),
    Row(
        "rabbitmq_queue_messages_ready",
        "gauge",
        {},
        "Messages ready to be delivered to consumers",
        lambda s, t: t.ready,
    ),
    Row(
        "rabbitmq_queue_messages_unacked",
        "gauge",
        {},
        "Messages delivered but not yet acknowledged",
        lambda s, t: t.unacked,
    ),
    Row(
        "rabbitmq_queue_messages",
        "gauge",
        {},
        "Sum of ready and unacknowledged messages, of those that wait for a retry, and of dead letters that stay",
        lambda s, t: t.ready + t.unacked + t.others,
    ),
    Row("rabbitmq_global_publishers", "gauge", _PROTOCOL, "Publishers currently connected", lambda s, t: t.publishers),
    Row("rabbitmq_global_consumers", "gauge", _PROTOCOL, "Consumers currently connected", lambda s, t: t.consumers),
    Row(
        "rabbitmq_process_resident_memory_bytes",
        "gauge",
        {},
        "Memory used in bytes",
        lambda s, t: _known(resident_bytes(), UNKNOWN),
    ),
    Row(
        "rabbitmq_resident_memory_limit_bytes",
        "gauge",
        {},
        "Memory high watermark in bytes",
        lambda s, t: _known(s.alarms.figures.memory_limit, 0),
    ),
    Row(
        "rabbitmq_disk_space_available_bytes",
        "gauge",
        {},
        "Disk space available in bytes",
        lambda s, t: _known(s.alarms.figures.disk_free, UNKNOWN),
    ),
    Row(
        "rabbitmq_disk_space_available_limit_bytes",
        "gauge",
        {},
        "Free disk space low watermark in bytes",
        lambda s, t: None if s.alarms.figures.disk_free == UNKNOWN else s.alarms.figures.disk_free_limit,
    ),
    Row("rabbitmq_process_open_fds", "gauge", {}, "Open file descriptors", _open_files),
    Row("rabbitmq_process_max_fds", "gauge", {}, "Open file descriptors limit", _files_max),
    Row("rabbitmq_process_open_tcp_sockets", "gauge", {}, "Open TCP sockets", lambda s, t: s.sockets_open),
    Row(
        "rabbitmq_process_max_tcp_sockets", "gauge", {}, "Open TCP sockets limit", lambda s, t: _known(s.sockets_max, 0)
    ),
    Row(
        "rabbitmq_erlang_uptime_seconds",
        "gauge",
        {},
        "Node uptime (named as RabbitMQ's dashboards join on it)",
        _uptime,
    ),
    Row(
        "rabbitmq_alarms_memory_used_watermark",
        "gauge",
        {},
        "Is 1 if the memory alarm is raised",
        lambda s, t: s.alarms.is_raised(MEMORY),
    ),
    Row(
        "rabbitmq_alarms_free_disk_space_watermark",
        "gauge",
        {},
        "Is 1 if the disk alarm is raised",
        lambda s, t: s.alarms.is_raised(DISK),
    ),
    Row("rabbitmq_connections_opened", "counter", {}, "Connections opened", lambda s, t: s.counters.connections_opened),
    Row("rabbitmq_connections_closed", "counter", {}, "Connections closed", lambda s, t: s.counters.connections_closed),
    Row("rabbitmq_channels_opened", "counter", {}, "Channels opened", lambda s, t: s.counters.channels_opened),
    Row("rabbitmq_channels_closed", "counter", {}, "Channels closed", lambda s, t: s.counters.channels_closed),
    Row("rabbitmq_queues_declared", "counter", {}, "Queues declared", lambda s, t: s.counters.queues_declared),
    Row("rabbitmq_queues_created", "counter", {}, "Queues created", lambda s, t: s.counters.queues_created),
    Row("rabbitmq_queues_deleted", "counter", {}, "Queues deleted", lambda s, t: s.counters.queues_deleted),
    Row(
        "rabbitmq_auth_attempts",
        "counter",
        {},
        "Authentication attempts",
        lambda s, t: s.counters.auth_attempts_succeeded + s.counters.auth_attempts_failed,
    ),
    Row(
        "rabbitmq_auth_attempts_succeeded",
        "counter",
        {},
        "Successful authentication attempts",
        lambda s, t: s.counters.auth_attempts_succeeded,
    ),
    Row(
        "rabbitmq_auth_attempts_failed",
        "counter",
        {},
        "Failed authentication attempts",
        lambda s, t: s.counters.auth_attempts_failed,
    ),
    Row(
        "rabbitmq_global_messages_received",
        "counter",
        _PROTOCOL,
        "Messages received from publishers",
        lambda s, t: s.counters.messages_received,
    ),
    Row(
        "rabbitmq_global_messages_received_confirm",
        "counter",
        _PROTOCOL,
        "Messages received from publishers that use confirms",
        lambda s, t: s.counters.messages_received_confirm,
    ),
    Row(
        "rabbitmq_global_messages_routed",
        "counter",
        _PROTOCOL,
        "Messages routed to queues",
        lambda s, t: (
            s.counters.messages_received
            - s.counters.messages_unroutable_dropped
            - s.counters.messages_unroutable_returned
        ),
    ),
    Row(
        "rabbitmq_global_messages_unroutable_dropped",
        "counter",
        _PROTOCOL,
        "Messages published as non-mandatory that could not be routed",
        lambda s, t: s.counters.messages_unroutable_dropped,
    ),
    Row(
        "rabbitmq_global_messages_unroutable_returned",
        "counter",
        _PROTOCOL,
        "Messages published as mandatory that could not be routed",
        lambda s, t: s.counters.messages_unroutable_returned,
    ),
    Row(
        "rabbitmq_global_messages_confirmed",
        "counter",
        _PROTOCOL,
        "Messages confirmed to publishers",
        lambda s, t: s.counters.messages_confirmed,
    ),
    _dead_lettered("expired", _DEAD_LETTER, "because their TTL passed", lambda s, t: s.counters.dead_lettered_expired),
    _dead_lettered("expired", _KEPT, "because their TTL passed", lambda s, t: s.counters.kept_dead_letters_expired),
    _dead_lettered(
        "maxlen", _DEAD_LETTER, "because the queue was too long", lambda s, t: s.counters.dead_lettered_maxlen
    ),
    _dead_lettered(
        "rejected", _DEAD_LETTER, "because a consumer rejected them", lambda s, t: s.counters.dead_lettered_rejected
    ),
    _dead_lettered(
        "rejected", _KEPT, "because a consumer rejected them", lambda s, t: s.counters.kept_dead_letters_rejected
    ),
    _dead_lettered(
        "delivery_limit",
        _KEPT,
        "because they were delivered in vain too often",
        lambda s, t: s.counters.kept_dead_letters_delivery_limit,
    ),
    _dead_lettered(
        "confirmed", _KEPT, "and confirmed by all their targets", lambda s, t: s.counters.kept_dead_letters_confirmed
    ),
)


class Page:
    """A prometheus_client collector over one node, for one scrape."""

    def __init__(self, server: Server, totals: Totals | None, endpoint: str = AGGREGATED) -> None:
        self._server = server
        self._totals = totals
        """None for a page that says nothing of the node but its name."""
        self._endpoint = endpoint

    def _info(self) -> Iterator[Metric]:
        identity = self._server.identity
        build = GaugeMetricFamily(
            "rabbitmq_build_info",
            "Product and version",
            labels=[
                "rabbitmq_version",
                "product_name",
                "product_version",
                "prometheus_client_version",
                "erlang_version",
            ],
        )
        # RabbitMQ's dashboards have a column for erlang_version: it shows what this broker runs on
        runtime = identity.platform
        build.add_metric([identity.product_version, "Leveret", identity.version, _client_version(), runtime], 1)
        yield build
        node = GaugeMetricFamily(
            "rabbitmq_identity_info",
            "Node and cluster identity",
            labels=["rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id", "rabbitmq_endpoint"],
        )
        node.add_metric([identity.node, identity.cluster_name, identity.cluster_name, self._endpoint], 1)
        yield node

    def _turns(self) -> Metric:
        stopwatch = self._server.clock.stopwatch
        buckets: list[tuple[str, float]] = []
        count = 0
        for bound, turns in zip([*BOUNDS_US, None], stopwatch.buckets, strict=True):
            count += turns
            buckets.append(("+Inf" if bound is None else str(bound / 1_000_000), count))
        metric = HistogramMetricFamily(
            "leveret_turn_seconds", "How long one turn of the event loop took: reads, dispatch, sync, writes"
        )
        metric.add_metric([], buckets, stopwatch.sum_us / 1_000_000)
        return metric

    def collect(self) -> Iterator[Metric]:
        """All metrics of the node."""
        yield from self._info()
        totals = self._totals
        if totals is None:
            return
        yield self._turns()
        metric: CounterMetricFamily | GaugeMetricFamily | None = None
        for row in TABLE:
            if self._endpoint == PER_OBJECT and row.name in _OF_OBJECTS:
                continue
            value = row.read(self._server, totals)
            if value is None:
                continue
            if metric is None or metric.name != row.name:
                if metric is not None:
                    yield metric
                family = CounterMetricFamily if row.kind == "counter" else GaugeMetricFamily
                metric = family(row.name, row.help, labels=list(row.labels))
            metric.add_metric(list(row.labels.values()), float(value))
        if metric is not None:
            yield metric
        counted = by_type(self._server.counters, totals.deliveries)
        for told in DELIVERIES:
            metric = CounterMetricFamily(told.name, told.help, labels=["protocol", "queue_type"])
            for queue_type, counts in counted.items():
                metric.add_metric(["amqp091", queue_type], told.total(counts))
            yield metric
