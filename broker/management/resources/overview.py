"""GET /api/overview: what the node is, and how much is on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.request import listening_of, server_of
from broker.routing.registry import type_names

if TYPE_CHECKING:
    from broker.protocol.server import Server

_SLICE: Final = 500


def counted(**counts: int) -> dict[str, Any]:
    """Counts, each with the details that clients read its rate from; rates are not sampled yet (``rates_mode`` says so)."""
    shown: dict[str, Any] = {}
    for name, count in counts.items():
        shown[name] = count
        shown[f"{name}_details"] = {"rate": 0.0}
    return shown


async def _totals(server: Server) -> tuple[dict[str, int], dict[str, Any]]:
    queues = exchanges = consumers = ready = unacked = 0
    for vhost in list(server.vhosts.values()):
        queues += len(vhost.queues)
        exchanges += len(vhost.exchanges)
        for index, queue in enumerate(list(vhost.queues.values()), 1):
            ready += queue.ready_count()
            unacked += queue.unacked
            consumers += queue.consumers.count()
            if index % _SLICE == 0:
                await asyncio.sleep(0)
    objects = {
        "channels": server.channels_open,
        "connections": len(server.connections),
        "consumers": consumers,
        "exchanges": exchanges,
        "queues": queues,
    }
    return objects, counted(messages=ready + unacked, messages_ready=ready, messages_unacknowledged=unacked)


async def get_overview(request: Request) -> Response:
    """GET /api/overview"""
    server = server_of(request)
    identity = server.identity
    counters = server.counters
    objects, messages = await _totals(server)
    listening = listening_of(request)
    return answer(
        {
            "management_version": identity.product_version,
            "rates_mode": "none",
            "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
            "exchange_types": [{"name": name, "description": f"AMQP {name} exchange", "enabled": True} for name in sorted(type_names())],
            "product_version": identity.product_version,
            "product_name": identity.product,
            "rabbitmq_version": identity.product_version,
            "leveret_version": identity.version,
            "cluster_name": identity.cluster_name,
            # clients read these two as texts: what this broker runs on
            "erlang_version": identity.platform,
            "erlang_full_version": identity.platform,
            "disable_stats": False,
            "enable_queue_totals": False,
            "message_stats": counted(
                publish=counters.messages_received,
                confirm=counters.messages_confirmed,
                return_unroutable=counters.messages_unroutable_returned,
                drop_unroutable=counters.messages_unroutable_dropped,
                deliver=counters.messages_delivered_ack,
                deliver_no_ack=counters.messages_delivered,
                get=counters.messages_got_ack,
                get_no_ack=counters.messages_got,
                get_empty=counters.messages_got_empty,
                deliver_get=counters.messages_delivered_ack
                + counters.messages_delivered
                + counters.messages_got_ack
                + counters.messages_got,
                redeliver=counters.messages_redelivered,
                ack=counters.messages_acked,
            ),
            "churn_rates": counted(
                connection_created=counters.connections_opened,
                connection_closed=counters.connections_closed,
                channel_created=counters.channels_opened,
                channel_closed=counters.channels_closed,
                queue_declared=counters.queues_declared,
                queue_created=counters.queues_created,
                queue_deleted=counters.queues_deleted,
            ),
            "queue_totals": messages,
            "object_totals": objects,
            "statistics_db_event_queue": 0,
            "node": identity.node,
            "listeners": [
                {"node": identity.node, "protocol": each.protocol, "ip_address": each.host, "port": each.port} for each in listening
            ],
            "contexts": [
                {"node": identity.node, "description": "RabbitMQ Management", "path": "/", "ip": each.host, "port": str(each.port)}
                for each in listening
                if each.protocol == "http"
            ],
        }
    )


ROUTES: Final = [Route("/api/overview", get_overview)]
