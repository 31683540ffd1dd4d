"""What a queue costs where nothing happens: all objects that are there because of it, added up. A node may have tens of
thousands of them, so whatever a part of a queue keeps for later is made by its first use (docs/raft-evidence.md)."""

from __future__ import annotations

import gc
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final

import pytest

from broker import build
from broker.store.wal_writer import WalOptions
from tests.support.durable import DurableBroker

COUNT: Final = 400
KNOWN_ALREADY: Final = (type, ModuleType, FunctionType, BuiltinFunctionType)

pytestmark = pytest.mark.skipif(not build.loaded().compiled, reason="a matter of the compiled build")


def memory_bytes(node: DurableBroker) -> int:
    """The sizes of all objects of a node, but for its disk."""
    gc.collect()
    seen: set[int] = set()
    total = 0
    found: list[object] = [node.server, node.turn, node.clock, node.store.logs]
    while found:
        each = found.pop()
        if id(each) in seen or each is None or isinstance(each, KNOWN_ALREADY) or each is node.disk:
            continue
        seen.add(id(each))
        total += (sys.getsizeof(each) + 15) // 16 * 16  # what the allocator takes for it
        found += gc.get_referents(each)
    return total


def declared(node: DurableBroker, kind: str, name: str) -> None:
    client = node.open()
    client.ask("confirm.select")
    for number in range(COUNT):
        client.ask("queue.declare", queue=f"{name}{number}", durable=True, arguments={"x-queue-type": kind})
    client.drop()


def used(node: DurableBroker, name: str) -> None:
    """A message was published to each, confirmed, got and settled."""
    client = node.open()
    client.ask("confirm.select")
    for number in range(COUNT):
        client.publish(f"{name}{number}", b"x")
        client.expect("basic.ack")
        assert client.get(f"{name}{number}", no_ack=True)
    client.drop()


def rest(node: DurableBroker) -> None:
    for _ in range(6):
        node.advance(5000)


@pytest.mark.parametrize(("kind", "when_declared", "when_used"), [("quorum", 1400, 3900), ("classic", 1900, 2950)])
def test_an_idle_queue_has_only_what_it_needs(
    kind: str, when_declared: int, when_used: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that was declared, and one that was used and is empty again. Measured: see docs/raft-evidence.md."""
    node = DurableBroker(options=WalOptions(file_size=16 << 20))
    declared(node, kind, "first")
    used(node, "first")
    rest(node)
    before = memory_bytes(node)
    declared(node, kind, "q")
    rest(node)
    at_first = (memory_bytes(node) - before) / COUNT
    used(node, "q")
    rest(node)
    later = (memory_bytes(node) - before) / COUNT
    with capsys.disabled():
        print(f"\nan idle {kind} queue: {at_first:.0f} bytes, {later:.0f} once it was used")
    assert at_first < when_declared
    assert later < when_used
