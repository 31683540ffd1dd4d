"""What durability costs: persistent loads, a backlog on disk, a start after SIGKILL; called by scripts/bench --durable.

fdatasync before every confirm is on in all figures. The disk is measured beside them: a bare overwrite of 4 KiB and
fdatasync in a file filled with zeros, before each round; a figure of one message at a time means nothing without it.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pika

from broker.perf.run import resident_mib
from tests.support.node import Node

MIB = 1 << 20
QUEUE = "leveret-perf"
BACKLOG_LIMIT_MIB = 40
DRAIN_LIMIT = 350_000
DECLARE_LIMIT_S = 0.8
DELIVERY_LIMIT_S = 1.5


class Load(NamedTuple):
    """One row: limits of 0 are not judged."""

    name: str
    options: str
    limit_us: float
    limit_rate: float


LOADS = (
    Load("1 KiB, window 1000, ack every 50", "--size 1024 --confirm 1000 --ack 50 --backlog 50000", 6, 120_000),
    Load("100 B, publish only, window 2000", "--size 100 --confirm 2000 --consumers 0", 2.5, 350_000),
)
ONE_AT_A_TIME = Load("1 KiB, one at a time", "--size 1024 --confirm 1 --consumers 0", 0, 0)


def bare_sync_us(folder: Path, count: int = 1000) -> float:
    """Median time of a 4 KiB overwrite and fdatasync in this folder, in microseconds."""
    path = folder / "bare"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(descriptor, bytes(16 * MIB), 0)
        os.fsync(descriptor)
        block = b"x" * 4096
        times = []
        for number in range(count):
            started = time.perf_counter()
            os.pwrite(descriptor, block, number * 4096 % (16 * MIB))
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - started)
        return statistics.median(times) * 1e6
    finally:
        os.close(descriptor)
        path.unlink()


def perf_command(node: Node) -> list[str]:
    """The load generator against this node's durable queue."""
    return [sys.executable, "-P", "-m", "broker", "perf", "--host", node.host, "--port", str(node.port), "--durable"]


def perf(node: Node, options: str, seconds: float) -> dict[str, float]:
    """The load generator's report. Raises: RuntimeError if it failed or found a message lost, doubled or reordered."""
    command = [
        *perf_command(node),
        "--verify",
        "--seconds",
        str(seconds),
        "--pid",
        str(node.pid),
        "--persistent",
        *options.split(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr or done.stdout)
    report: dict[str, float] = json.loads(done.stdout)
    return report


def asked(node: Node) -> tuple[pika.BlockingConnection, pika.adapters.blocking_connection.BlockingChannel]:
    """A connection with a channel."""
    connection = pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))
    return connection, connection.channel()


def waiting(channel: pika.adapters.blocking_connection.BlockingChannel) -> int:
    """Messages in the queue."""
    return int(channel.queue_declare(QUEUE, passive=True).method.message_count)


def await_waiting(channel: pika.adapters.blocking_connection.BlockingChannel, count: int) -> None:
    """Return when so many messages wait. Raises: TimeoutError, after 120 s."""
    deadline = time.monotonic() + 120
    while (found := waiting(channel)) != count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{found} messages wait instead of {count}")
        time.sleep(0.01)


@contextmanager
def consuming(node: Node, options: str) -> Iterator[None]:
    """A consumer of the queue, in a process of its own, until the end of the block."""
    command = [*perf_command(node), "--producers", "0", "--warmup", "0", "--seconds", "120", *options.split()]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Table:
    """Rows as they are measured, and what missed its limit."""

    def __init__(self) -> None:
        self.missed: list[str] = []
        print("| load | limit | Leveret |\n|---|---|---|")

    def row(self, name: str, limit: str, value: str, reached: bool) -> None:
        """Print a row."""
        print(f"| {name} | {limit} | {value} |", flush=True)
        if not reached:
            self.missed.append(f"{name}: {value}, limit {limit}")


def measure_loads(table: Table, rounds: int, seconds: float) -> None:
    """CPU per message and rate, medians."""
    with Node() as node:
        for load in LOADS:
            reports = [perf(node, load.options, seconds) for _ in range(rounds)]
            cpu = statistics.median(report["broker_cpu_us_per_message"] for report in reports)
            key = "published_per_s" if "--consumers 0" in load.options else "consumed_per_s"
            rate = statistics.median(report[key] for report in reports)
            limit = f"{load.limit_us:g} us, {load.limit_rate:,.0f}/s"
            table.row(
                load.name, limit, f"{cpu:.2f} us, {rate:,.0f}/s", cpu <= load.limit_us and rate >= load.limit_rate
            )
        factors, times, bares = [], [], []
        for _ in range(rounds):
            bares.append(bare_sync_us(node.home))
            times.append(1e6 / perf(node, ONE_AT_A_TIME.options, seconds)["published_per_s"])
            factors.append(times[-1] / bares[-1])
        factor = statistics.median(factors)
        shown = f"{factor:.2f} x ({statistics.median(times):.0f} us against {statistics.median(bares):.0f} us)"
        table.row(ONE_AT_A_TIME.name, "2 x a bare overwrite and fdatasync", shown, factor <= 2)


def fill(node: Node, size: int, count: int) -> int:
    """A backlog of at least ``count`` messages; how many."""
    while True:
        perf(node, f"--size {size} --confirm 2000 --consumers 0 --keep --warmup 0", 0.5)
        connection, channel = asked(node)
        found = waiting(channel)
        connection.close()
        if found >= count:
            return found


def measure_backlog(table: Table, count: int) -> None:
    """Memory of a backlog, and how fast it drains."""
    with Node() as node:
        idle = resident_mib(node.pid)
        found = fill(node, 100, count)
        cost = (resident_mib(node.pid) - idle) * count / found
        table.row(
            f"backlog of {count:,} x 100 B",
            f"{BACKLOG_LIMIT_MIB} MiB above idle",
            f"{cost:.0f} MiB",
            cost <= BACKLOG_LIMIT_MIB,
        )
        connection, channel = asked(node)
        started = time.monotonic()
        with consuming(node, ""):
            await_waiting(channel, 0)
            rate = found / (time.monotonic() - started)
        connection.close()
        table.row("draining it", f"{DRAIN_LIMIT:,}/s", f"{rate:,.0f}/s", rate >= DRAIN_LIMIT)


def measure_unacked(table: Table, count: int) -> None:
    """Memory of a consumer that has taken a backlog and acknowledged nothing; then it goes, and the backlog must be
    there again."""
    with Node() as node:
        idle = resident_mib(node.pid)
        found = fill(node, 100, count)
        connection, channel = asked(node)
        with consuming(node, "--prefetch 0 --ack 1000000000"):
            await_waiting(channel, 0)
            cost = (resident_mib(node.pid) - idle) * count / found
        await_waiting(channel, found)
        connection.close()
        name = f"the same with a consumer that acknowledges nothing (no prefetch limit), {count:,} x 100 B"
        table.row(name, f"{BACKLOG_LIMIT_MIB} MiB above idle", f"{cost:.0f} MiB", cost <= BACKLOG_LIMIT_MIB)


def until(answer: Callable[[], object]) -> object:
    """The first answer that is not an error: the node is starting. Raises: the error, after 20 s."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return answer()
        except pika.exceptions.AMQPConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.002)


def measure_restart(table: Table, count: int) -> None:
    """SIGKILL with a backlog of 1 KiB messages: from process start to the first right answers."""
    with tempfile.TemporaryDirectory(prefix="leveret-bench-") as folder, Node(data_dir=Path(folder) / "data") as node:
        found = fill(node, 1024, count)
        node.kill()
        port = node.port
        node.options = ["--port", str(port)]
        started = time.monotonic()
        process = subprocess.Popen(node.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            connection = until(lambda: pika.BlockingConnection(pika.ConnectionParameters(node.host, port)))
            assert isinstance(connection, pika.BlockingConnection)
            channel = connection.channel()
            back = waiting(channel)
            declared = time.monotonic() - started
            for _ in channel.consume(QUEUE):
                break
            delivered = time.monotonic() - started
            connection.close()
        finally:
            process.kill()
            process.wait()
        right = back == found
        limit = f"{DECLARE_LIMIT_S} s / {DELIVERY_LIMIT_S} s"
        value = f"{declared:.2f} s / {delivered:.2f} s" + ("" if right else f", {back:,} messages instead of {found:,}")
        name = f"SIGKILL with {count:,} x 1 KiB waiting: start to a right passive declare / to the first delivery"
        table.row(name, limit, value, right and declared <= DECLARE_LIMIT_S and delivered <= DELIVERY_LIMIT_S)


def main(rounds: int, seconds: float, count: int = 1_000_000) -> list[str]:
    """Measures and prints everything; what missed its limit."""
    table = Table()
    measure_loads(table, rounds, seconds)
    measure_backlog(table, count)
    measure_unacked(table, count)
    measure_restart(table, count)
    return table.missed
