"""Inputs of `scripts/soak stalls` that ask the management API."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

from scripts._stall_client import SILENCE_S, Client, stall
from tests.support.wire import method


def request(client: Client, http_method: str, path: str, data: bytes | None = None) -> bytes:
    """What the HTTP API answers."""
    url = f"http://{client.node.host}:{client.node.ports['management']}/api/{path}"
    asked = urllib.request.Request(url, data, {"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="}, method=http_method)
    with urllib.request.urlopen(asked, timeout=SILENCE_S) as answered:
        answer: bytes = answered.read()
    return answer


@stall
def list_queues(client: Client) -> Iterator[None]:
    """GET of 50,000 queues, in the order of their lengths."""
    client.do(b"".join(method(1, "queue.declare", queue=f"q{number}", nowait=True) for number in range(50_000)))
    request(client, "GET", "overview")
    yield
    assert request(client, "GET", "queues?sort=messages").count(b'"name":"q') == 50_000


@stall
def list_bindings(client: Client) -> Iterator[None]:
    """GET of 50,000 bindings."""
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", [f"key.{number}" for number in range(50_000)])
    request(client, "GET", "overview")
    yield
    assert request(client, "GET", "bindings").count(b'"source":"t"') == 50_000


@stall
def http_get(client: Client) -> Iterator[None]:
    """10,000 messages of 800 bytes in one HTTP get, put back."""
    client.queue("q")
    client.fill("q", 10_000, b"x" * 800)
    request(client, "GET", "overview")
    asked = json.dumps({"count": 10_000, "ackmode": "ack_requeue_true", "encoding": "auto"}).encode()
    yield
    assert request(client, "POST", "queues/%2F/q/get", asked).count(b'"payload"') == 10_000


@stall
def http_delete(client: Client) -> Iterator[None]:
    """DELETE of a queue with 100,000 bindings and a million messages."""
    client.exchange("t", "topic")
    client.queue("q")
    client.bind("q", "t", [f"key.{number}" for number in range(100_000)])
    client.fill("q", 1_000_000)
    request(client, "GET", "overview")
    yield
    request(client, "DELETE", "queues/%2F/q")
