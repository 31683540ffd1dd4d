"""GET /api/overview: what the node is, and how much is on it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.management.answers import answer
from broker.management.request import listening_of, server_of
from broker.management.stats import of_depth, of_node, rates_of
from broker.routing.registry import type_names
from broker.stats import QUEUE_NAMES

if TYPE_CHECKING:
    from broker.protocol.server import Server

_SLICE: Final = 500


async def _totals(server: Server) -> tuple[dict[str, int], dict[str, Any]]:
    queues = exchanges = consumers = ready = unacked = others = 0
    rates: dict[str, float] = {}
    for vhost in list(server.vhosts.values()):
        queues += len(vhost.queues)
        exchanges += len(vhost.exchanges)
        for index, queue in enumerate(list(vhost.queues.values()), 1):
            ready += queue.ready_count()
            unacked += queue.unacked
            others += int(queue.set_aside_count())
            consumers += queue.consumers.count()
            for name, rate in rates_of(QUEUE_NAMES, queue.figures).items():
                rates[name] = rates.get(name, 0.0) + rate
            if index % _SLICE == 0:
                await asyncio.sleep(0)
    objects = {
        "channels": server.channels_open,
        "connections": len(server.connections),
        "consumers": consumers,
        "exchanges": exchanges,
        "queues": queues,
    }
    return objects, of_depth(ready, unacked, others, rates)


async def get_overview(request: Request) -> Response:
    """GET /api/overview"""
    server = server_of(request)
    identity = server.identity
    objects, messages = await _totals(server)
    message_stats, churn_rates = of_node(server.sampler.node)
    listening = listening_of(request)
    return answer(
        {
            "management_version": identity.product_version,
            "rates_mode": "basic",
            "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
            "exchange_types": [
                {"name": name, "description": f"AMQP {name} exchange", "enabled": True} for name in sorted(type_names())
            ],
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
            "message_stats": message_stats,
            "churn_rates": churn_rates,
            "queue_totals": messages,
            "object_totals": objects,
            "statistics_db_event_queue": 0,
            "node": identity.node,
            "listeners": [
                {"node": identity.node, "protocol": each.protocol, "ip_address": each.host, "port": each.port}
                for each in listening
            ],
            "contexts": [
                {
                    "node": identity.node,
                    "description": "RabbitMQ Management",
                    "path": "/",
                    "ip": each.host,
                    "port": str(each.port),
                }
                for each in listening
                if each.protocol == "http"
            ],
        }
    )


ROUTES: Final = [Route("/api/overview", get_overview)]
