"""Space comes back: what is consumed leaves the disk, one slow queue pins nothing of the others, small queues are not
many files.

docs/durability.md, "How much disk a backlog costs".
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from tests.crash.process import CrashNode
from tests.support import wait

FILE = 1 << 20
FIXED = 8 * FILE
"""The files of the log itself, full and spare ones, and the slack that compaction leaves alone (16 MiB with files of 64
MiB)."""
PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[CrashNode]:
    """A node whose log turns round every MiB."""
    made = CrashNode(tmp_path / "data", tuning=["--wal-file", str(FILE), "--segment", str(4 * FILE)])
    with made:
        yield made


@contextlib.contextmanager
def opened(node: CrashNode) -> Iterator[BlockingChannel]:
    """A channel of a connection of its own."""
    connection = pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port, heartbeat=0))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def used(node: CrashNode) -> int:
    """Bytes on the disk."""
    total = 0
    for path in node.data_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # the node removes files meanwhile
            status = path.stat()
            total += status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0
    return total


def fill(node: CrashNode, queues: list[str], count: int, size: int) -> None:
    """Declares the queues; so many messages for each of them, in turns; on the disk when this returns."""
    with opened(node) as channel:
        for name in queues:
            channel.queue_declare(name, durable=True)
        channel.tx_select()
        for number in range(count):
            for name in queues:
                channel.basic_publish("", name, b"%08d" % number + bytes(size - 8), PERSISTENT)
            if number % 16 == 0:
                channel.tx_commit()
        channel.tx_commit()


def consume(node: CrashNode, queue: str, count: int) -> list[int]:
    """Take and acknowledge so many messages; their numbers."""
    numbers = []
    with opened(node) as channel:
        channel.basic_qos(prefetch_count=200)
        for method, _, body in channel.consume(queue):
            numbers.append(int(body[:8]))
            if len(numbers) % 50 == 0 or len(numbers) == count:
                channel.basic_ack(method.delivery_tag, multiple=True)
            if len(numbers) == count:
                break
    return numbers


def test_one_slow_queue_pins_nothing_of_the_others(node: CrashNode) -> None:
    """Ten queues share the log; all but one are consumed, and what stays is what the one needs. It all survives a
    kill."""
    names = [f"q{number}" for number in range(10)]
    fill(node, names, 100, 40_000)
    live = 100 * 40_000
    wait.until(lambda: used(node) > 8 * live, 20_000, "the backlog is on the disk")
    for name in names[1:]:
        assert consume(node, name, 100) == list(range(100))
    wait.until(lambda: used(node) <= 1.2 * live + FIXED, 30_000, "the disk holds little more than what waits")
    node.kill()
    node.start()
    assert consume(node, "q0", 100) == list(range(100))
    wait.until(lambda: used(node) <= FIXED, 30_000, "the disk is given back")


def test_a_queue_that_is_consumed_out_of_order_gives_its_space_back(node: CrashNode) -> None:
    """Every tenth message stays unacknowledged: what is dead around them is compacted away."""
    fill(node, ["q"], 1000, 30_000)
    with opened(node) as reader:
        for count, (method, _, _) in enumerate(reader.consume("q"), 1):
            if count % 10:
                reader.basic_ack(method.delivery_tag)
            if count == 1000:
                break
        wait.until(
            lambda: used(node) <= 1.2 * 100 * 30_000 + FIXED, 30_000, "the disk holds little more than what waits"
        )
    node.kill()
    node.start()
    assert consume(node, "q", 100) == list(range(9, 1000, 10))


@pytest.mark.parametrize("how", ["delete", "purge"])
def test_deleted_and_purged_queues_give_their_space_back(node: CrashNode, how: str) -> None:
    """Without a consumer, in one go."""
    fill(node, ["q"], 800, 30_000)
    with opened(node) as channel:
        if how == "delete":
            channel.queue_delete("q")
        else:
            channel.queue_purge("q")
    wait.until(lambda: used(node) <= FIXED, 30_000, "the disk is given back")


def test_many_small_queues_are_few_files(node: CrashNode) -> None:
    """What is live of small queues goes to shared segments: 2,000 queues with a few messages each, turned over by other
    traffic."""
    names = [f"small{number}" for number in range(2000)]
    fill(node, names, 2, 200)
    for _ in range(4):
        fill(node, ["big"], 100, 30_000)
        assert len(consume(node, "big", 100)) == 100
    files = [path for path in node.data_dir.rglob("*") if path.is_file()]
    assert len(files) < 60, f"{len(files)} files"
    node.kill()
    node.start()
    with opened(node) as channel:
        for name in names[::97]:
            assert channel.queue_declare(name, passive=True).method.message_count == 2
            assert consume(node, name, 2) == [0, 1]
