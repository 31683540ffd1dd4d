"""The application behind the metrics port: pages for Prometheus to scrape. No authentication, as RabbitMQ's has none.

/metrics               sums over the node
/metrics/per-object    the same, and the series of each object
/metrics/detailed      the families named by ?family=, of the virtual hosts named by ?vhost=, or of all
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from broker.metrics.exporter import AGGREGATED, DETAILED, PER_OBJECT, Page, Totals, totals_of
from broker.metrics.objects import CLUSTER_FAMILIES, FAMILIES, Family, page_of

if TYPE_CHECKING:
    from broker.protocol.server import Server

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The text format that every Prometheus understands (Prometheus docs, Exposition formats)."""


class _Metrics:
    def __init__(self, server: Server) -> None:
        self._server = server

    async def page(self, request: Request) -> Response:
        """GET /metrics"""
        totals = await totals_of(self._server)
        # media_type would have its charset added by starlette; the header is given whole
        return Response(self._totals(totals, AGGREGATED), headers={"Content-Type": CONTENT_TYPE})

    async def per_object(self, request: Request) -> Response:
        """GET /metrics/per-object"""
        totals = await totals_of(self._server)
        head = self._totals(totals, PER_OBJECT)
        return self._objects(head, FAMILIES, list(self._server.vhosts), "rabbitmq_")

    async def detailed(self, request: Request) -> Response:
        """GET /metrics/detailed. Raises: 400 for a pattern of queue names."""
        query = request.query_params
        if "queue" in query:
            raise HTTPException(400, "patterns of queue names are not supported")
        wanted = query.getlist("family")
        families = [family for family in (*FAMILIES, *CLUSTER_FAMILIES) if family.name in wanted]
        named = query.getlist("vhost")
        vhosts = [name for name in self._server.vhosts if not named or name in named]
        return self._objects(self._totals(None, DETAILED), families, vhosts, "rabbitmq_detailed_")

    def _totals(self, totals: Totals | None, endpoint: str) -> bytes:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Page(self._server, totals, endpoint))
        return generate_latest(registry)

    def _objects(
        self, head: bytes, families: Collection[Family], vhosts: Collection[str], prefix: str
    ) -> StreamingResponse:
        async def parts() -> AsyncIterator[str | bytes]:
            yield head
            async for part in page_of(self._server, families, vhosts, prefix):
                yield part

        return StreamingResponse(parts(), headers={"Content-Type": CONTENT_TYPE})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "try /metrics\n" if error.status_code == 404 else f"{error.detail}\n"
    return PlainTextResponse(text, error.status_code, headers=error.headers)


def make_app(server: Server) -> Starlette:
    """The application of one node."""
    metrics = _Metrics(server)
    app = Starlette(
        routes=[
            Route("/metrics", metrics.page),
            Route("/metrics/per-object", metrics.per_object),
            Route("/metrics/detailed", metrics.detailed),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return app
