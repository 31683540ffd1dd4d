"""The application behind the metrics port: one page, for Prometheus to scrape. No authentication, as RabbitMQ's has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from broker.metrics.exporter import Page, totals_of

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
        registry = CollectorRegistry(auto_describe=False)
        registry.register(Page(self._server, totals))
        # media_type would have its charset added by starlette; the header is given whole
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = "try /metrics\n" if error.status_code == 404 else f"{error.detail}\n"
    return PlainTextResponse(text, error.status_code, headers=error.headers)


def make_app(server: Server) -> Starlette:
    """The application of one node."""
    app = Starlette(
        routes=[Route("/metrics", _Metrics(server).page)],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    return app
