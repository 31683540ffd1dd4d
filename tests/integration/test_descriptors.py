"""Few descriptors and many clients: a real node under a low limit, and real sockets (docs/protocol.md,
"Descriptors")."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from tests.support import wait
from tests.support.memory import opening
from tests.support.node import Node

MEBIBYTE = bytes(1 << 20)
MESSAGES = 80
"""More than a file of the log holds, so that one is filled, and the next begun."""


@contextlib.contextmanager
def crowd(node: Node, count: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many clients that say this, and then nothing."""
    with contextlib.ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection((node.host, node.port), 10))
            with contextlib.suppress(OSError):
                client.sendall(says)
            clients.append(client)
        yield clients


def is_open(client: socket.socket) -> bool:
    """Whether the broker has not closed it."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def publish_a_file(node: Node) -> None:
    """Publishes, with confirms, more than a file of the log holds."""
    with contextlib.closing(pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("kept", durable=True)
        for _ in range(MESSAGES):
            channel.basic_publish("", "kept", MEBIBYTE, pika.BasicProperties(delivery_mode=2), mandatory=True)


def api(node: Node, path: str) -> Any:
    """What the management API answers."""
    request = urllib.request.Request(f"http://{node.host}:{node.ports['management']}{path}")
    request.add_header("Authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_clients_that_send_nothing_keep_nobody_out() -> None:
    """256 descriptors, 400 such clients: an honest one is served, files of the log come and go, and the node says so
    once."""
    with Node(descriptors=256) as node, crowd(node, 400) as clients:
        publish_a_file(node)
        open_files = len(os.listdir(f"/proc/{node.pid}/fd"))
        assert open_files < 256 - 64
        assert sum(map(is_open, clients)) <= 64
        figures = api(node, "/api/nodes")[0]
        assert figures["fd_total"] == 256
        assert open_files <= figures["fd_used"] <= open_files + 3
        assert (figures["sockets_total"], figures["sockets_used"]) == (192, sum(map(is_open, clients)))
        output = node.output()
        assert "descriptors=256" in output
        assert output.count("Clients that had not logged in made room for others") == 1
        assert "Traceback" not in output
        assert "Too many open files" not in output


def test_clients_that_log_in_leave_descriptors_for_the_log() -> None:
    """128 descriptors, 200 clients with a login: those that find none are closed at once; the others, and the disk, go
    on."""
    with Node(descriptors=128) as node:
        with contextlib.closing(pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("kept", durable=True)
            with crowd(node, 200, opening()) as clients:
                for _ in range(MESSAGES):
                    channel.basic_publish("", "kept", MEBIBYTE, pika.BasicProperties(delivery_mode=2), mandatory=True)
                assert 0 < sum(map(is_open, clients)) < 128 - 32
                assert len(os.listdir(f"/proc/{node.pid}/fd")) <= 128 - 32 + 8
        wait.until(lambda: len(os.listdir(f"/proc/{node.pid}/fd")) < 64, 10_000)
        publish_a_file(node)
        output = node.output()
        assert output.count("Clients were refused: no descriptors are left for them") == 1
        assert "Traceback" not in output


@pytest.mark.once
def test_the_soft_limit_is_raised() -> None:
    with Node() as node:
        lines = Path(f"/proc/{node.pid}/limits").read_text().splitlines()
        limits = next(line for line in lines if line.startswith("Max open files")).split()
        assert limits[3] == limits[4]
        assert f"descriptors={limits[3]}" in node.output()
