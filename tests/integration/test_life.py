"""How a node starts, stops and bears load: times and memory. Rule: README, "Two commands", "A node" and "Errors and
limits"."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final

import pika
import pytest
from pika.exceptions import ConnectionClosedByBroker

from tests.support.node import Node
from tests.support.wire import WireClient, method, publish

MIB: Final = 1 << 20


def resident_bytes(node: Node) -> int:
    """The memory of a node's process."""
    with open(f"/proc/{node.pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024


def exit_status(node: Node, timeout_s: float) -> int:
    """The status a node ends with, within the time."""
    assert node.process is not None
    status = node.process.wait(timeout_s)
    node.process = None
    return status


@contextmanager
def wire(node: Node) -> Iterator[WireClient]:
    """A client with an open channel."""
    client = WireClient(node.host, node.port)
    try:
        client.handshake()
        client.open_channel()
        yield client
    finally:
        client.close()


def test_a_client_is_let_in_soon_after_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """a node starts in a fraction of a second. Median of five: process start to connection.open-ok, 0.4 s on a quiet
    machine."""
    times = []
    for _ in range(5):
        node = Node()
        began = time.monotonic()
        with node:
            client = WireClient(node.host, node.port)
            client.handshake()
            times.append(time.monotonic() - began)
            client.close()
    median = statistics.median(times)
    with capsys.disabled():
        print(
            f"\nstart to connection.open-ok: median {median * 1000:.0f} ms of {[round(each * 1000) for each in times]}"
        )
    assert median < 1.5


def test_an_idle_node_is_small_and_so_is_an_idle_connection(capsys: pytest.CaptureFixture[str]) -> None:
    """at most 40 MiB before the first HTTP request, and 25 KiB for a connection with a channel."""
    count = 500
    with Node() as node:
        idle = resident_bytes(node)
        clients = [WireClient(node.host, node.port) for _ in range(20)]
        for client in clients:  # what the first connections bring is not theirs alone
            client.handshake()
            client.open_channel()
        before = resident_bytes(node)
        for _ in range(count):
            clients.append(WireClient(node.host, node.port))
            clients[-1].handshake()
            clients[-1].open_channel()
        each = (resident_bytes(node) - before) / count
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{node.host}:{node.ports['management']}/api/overview", timeout=10)
        with_http = resident_bytes(node)
        for client in clients:
            client.close()
    with capsys.disabled():
        print(
            f"\nidle {idle / MIB:.1f} MiB; {each / 1024:.1f} KiB a connection; {with_http / MIB:.1f} MiB with HTTP and "
            f"{count} of them"
        )
    assert idle < 40 * MIB
    assert each < 25 * 1024


def cpu_s(node: Node) -> float:
    """What a node's process has used of the processors."""
    with open(f"/proc/{node.pid}/stat", encoding="ascii") as status:
        fields = status.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def declare_many(client: WireClient, kind: str, name: str, count: int) -> None:
    for first in range(0, count, 100):
        numbers = range(first, first + 100)
        client.send(
            *(
                method(1, "queue.declare", queue=f"{name}{number}", durable=True, arguments={"x-queue-type": kind})
                for number in numbers
            )
        )
        for _ in numbers:
            client.expect("queue.declare-ok")


@pytest.mark.parametrize("kind", ["quorum", "classic"])
def test_idle_queues_cost_little(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """at most 5 KiB each, and 10,000 of them 1 % of a processor."""
    count = 10_000
    with Node() as node, wire(node) as client:
        declare_many(client, kind, "first", 500)
        before = resident_bytes(node)
        declare_many(client, kind, "q", count)
        each = (resident_bytes(node) - before) / count
        was_s = -1.0
        while was_s != (was_s := cpu_s(node)):  # what was declared goes to the manifest
            time.sleep(0.5)
        time.sleep(5)
        busy = (cpu_s(node) - was_s) / 5
    with capsys.disabled():
        print(f"\n{count:,} idle {kind} queues: {each / 1024:.1f} KiB each, {busy:.1%} of a processor")
    assert each < 5 * 1024
    assert busy < 0.01


class Worker(threading.Thread):
    """Does something with a connection until the broker ends it; keeps what it was told."""

    def __init__(self, node: Node, work: Callable[[Any], None]) -> None:
        super().__init__(daemon=True)
        self.node = node
        self.work = work
        self.busy = threading.Event()
        self.told: BaseException | None = None

    def run(self) -> None:
        connection = pika.BlockingConnection(pika.ConnectionParameters(self.node.host, self.node.port))
        channel = connection.channel()
        channel.queue_declare("load", arguments={"x-max-length": 1000})
        try:
            while True:
                self.work(channel)
                self.busy.set()
        except BaseException as error:
            self.told = error


def flood(channel: Any) -> None:
    channel.basic_publish("", "load", b"x" * 1000)


def confirmed(channel: Any) -> None:
    if not getattr(channel, "_delivery_confirmation", False):
        channel.confirm_delivery()
    channel.basic_publish("", "load", b"x")


def consume(channel: Any) -> None:
    channel.basic_get("load", auto_ack=True)


def idle(channel: Any) -> None:
    channel.connection.process_data_events(0.01)


def test_sigterm_under_load_tells_every_client_and_ends_within_five_seconds() -> None:
    """README, "Two commands": SIGTERM drains and exits 0 within 5 s. connection.close 320, as RabbitMQ's shutdown."""
    with Node() as node:
        workers = [Worker(node, work) for work in (flood, flood, confirmed, consume, idle, idle)]
        for worker in workers:
            worker.start()
        for worker in workers:
            assert worker.busy.wait(10)
        node.stop()  # asserts status 0 within 5 s
        for worker in workers:
            worker.join(10)
        for worker in workers:
            assert isinstance(worker.told, ConnectionClosedByBroker), (worker.work, worker.told)
            assert (worker.told.reply_code, worker.told.reply_text) == (
                320,
                "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'",
            )
        assert node.output().rstrip().splitlines()[-1].split()[2] == "Stopped"


def test_a_client_that_does_not_answer_holds_a_node_up_until_the_second_signal() -> None:
    """README, "Two commands": a second SIGTERM forces."""
    with Node() as node, wire(node) as client:
        assert node.process is not None
        node.process.send_signal(signal.SIGTERM)
        assert client.expect("connection.close", 0)["reply_code"] == 320
        assert node.is_running()
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert exit_status(node, 5) == 0
        assert time.monotonic() - began < 2


def test_an_open_http_connection_does_not_hold_a_node_up() -> None:
    with Node() as node, closing(socket.create_connection((node.host, node.ports["management"]))) as kept:
        kept.sendall(b"GET /api/overview HTTP/1.1\r\nHost: here\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += kept.recv(4096)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert node.process is not None
        began = time.monotonic()
        node.process.send_signal(signal.SIGTERM)
        assert exit_status(node, 5) == 0
        assert time.monotonic() - began < 2
        assert kept.recv(4096) == b""


@pytest.mark.parametrize("option", ["--port", "--management-port", "--prometheus-port"])
def test_a_port_that_is_taken_is_named_and_ends_the_start(option: str) -> None:
    """Exit status 1, one line that says which address, no traceback."""
    with closing(socket.create_server((Node.host, 0))) as taken:
        port = taken.getsockname()[1]
        node = Node(options=[option, str(port)])
        done = subprocess.run(node.command(), capture_output=True, text=True, timeout=20, check=False)
        node.end()
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "error" in line.split()[:2]]
    assert "Cannot listen" in line
    assert str(port) in line
    assert "Traceback" not in done.stdout + done.stderr


def test_a_consumer_that_stops_reading_costs_its_own_window_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    """ARCHITECTURE, "A turn": dispatch to a connection stops at its outbox's high water; what it does not read stays in
    the queue.

    The queue itself is bounded (4 MB), so whatever grows beyond that would be the deaf client's outbox. Others go on
    meanwhile.
    """
    size, total = 64 * 1024, 64 * MIB
    with Node() as node, wire(node) as deaf, wire(node) as publisher, wire(node) as other:
        deaf.ask(1, "queue.declare", queue="deaf", arguments={"x-max-length-bytes": 4_000_000})
        deaf.ask(1, "basic.consume", queue="deaf", no_ack=True)
        other.ask(1, "queue.declare", queue="other")
        publisher.ask(1, "confirm.select")
        message = publish(1, "", "deaf", b"x" * size)
        before = resident_bytes(node)
        slowest = 0.0
        peak = 0
        for sent in range(0, total, size * 16):
            publisher.send(message * 16)
            began = time.monotonic()
            other.send(publish(1, "", "other", b"ping"))
            assert other.get(1, "other", no_ack=True).body == b"ping"
            slowest = max(slowest, time.monotonic() - began)
            peak = max(peak, resident_bytes(node))
            assert sent < total
        confirms = 0
        while confirms < total // size:
            confirms = max(confirms, int(str(publisher.expect("basic.ack", 1)["delivery_tag"])))
        growth = max(peak, resident_bytes(node)) - before
        with capsys.disabled():
            print(
                f"\na deaf consumer: {growth / MIB:.1f} MiB more, another client's slowest answer {slowest * 1000:.0f} "
                "ms"
            )
        assert growth < 24 * MIB
        assert slowest < 1.0
        # it reads again, and gets what the queue kept, from the oldest on
        assert deaf.expect_said("basic.deliver", 1).body == b"x" * size
