"""A real process opens the data directories of older releases: nothing is lost, and it goes on working.

docs/durability-format.md, "Upgrades and downgrades". In memory, and at other times: tests/spec/test_upgrade.py.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.request
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from broker.store.datadir import FORMAT
from tests.support.node import Node
from tests.support.wire import WireClient, publish
from tests.upgrade import check, fixtures
from tests.upgrade.write import write_directory

if TYPE_CHECKING:
    from tests.support.wire import Method, Said
    from tests.upgrade.expected import Json, World

FIELDS = {
    "exchanges": ("name", "type", "durable", "auto_delete", "internal", "arguments"),
    "queues": ("name", "durable", "auto_delete", "arguments"),
    "bindings": ("source", "destination_type", "destination", "routing_key", "arguments"),
}


class OverWire:
    """A client of a real node; see `check.Client`."""

    def __init__(self, node: Node, client: WireClient) -> None:
        self.node = node
        self.client = client

    def ask(self, name: str, /, **arguments: object) -> Method:
        return self.client.ask(1, name, **arguments)

    def get(self, queue: str) -> Said | None:
        said = self.client.get(1, queue)
        return None if said.method.name == "basic.get-empty" else said

    def send(self, data: bytes) -> None:
        self.client.send(data)

    def publish(self, exchange: str, key: str, data: bytes, properties: Mapping[str, object]) -> None:
        self.client.send(publish(1, exchange, key, data, properties=properties))
        self.client.expect("basic.ack", 1)

    def count(self, queue: str) -> int:
        found = self.ask("queue.declare", queue=queue, passive=True)["message_count"]
        assert isinstance(found, int)
        return found

    def declared(self) -> tuple[list[Json], list[Json], list[Json]]:
        return self._list("exchanges", "name"), self._list("queues", "name"), self._list("bindings", "source")

    def _list(self, kind: str, name: str) -> list[Json]:
        url = f"http://127.0.0.1:{self.node.ports['management']}/api/{kind}"
        request = urllib.request.Request(
            url, headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            rows = json.loads(response.read())
        return [
            {field: row[field] for field in FIELDS[kind]}
            for row in rows
            if row[name] and not row[name].startswith("amq.")
        ]


@contextmanager
def client_of(node: Node) -> Iterator[OverWire]:
    """A client with channel 1 in confirm mode."""
    with closing(WireClient(node.host, node.port)) as client:
        client.handshake()
        client.open_channel()
        client.ask(1, "confirm.select")
        yield OverWire(node, client)
        client.goodbye()


def contents(data_dir: Path) -> dict[Path, bytes]:
    """All files but the lock."""
    return {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file() and path.name != "LOCK"}


def use(data_dir: Path, world: World, steps: Sequence[str]) -> None:
    """Open it and look, once for each step."""
    node = Node(data_dir=data_dir)
    try:
        for step in steps:
            node.start()
            assert "[warning" not in node.output(), node.output()
            with client_of(node) as client:
                check.compare(client, world)
                if step == "work":
                    check.work(client, world)
                    for queue, messages in world.messages.items():
                        assert client.count(queue) == len(messages), queue
            if step == "look, then kill":
                node.kill()
            else:
                node.stop()
    except BaseException:
        print(node.output())
        raise
    finally:
        node.end()


@pytest.mark.parametrize("name", fixtures.names())
def test_it_opens_without_loss_and_goes_on_working(name: str, tmp_path: Path) -> None:
    """It is started again after a clean end and after a kill."""
    world = fixtures.world_of(name)
    now_ms = time.time_ns() // 1_000_000
    if check.expires_now(world, now_ms):
        pytest.skip("written just now: its messages may expire while this test runs")
    check.expire(world, now_ms)
    fixtures.unpack(name, tmp_path / "data")
    use(tmp_path / "data", world, ("look", "work", "look, then kill", "look"))


@pytest.mark.parametrize("end", fixtures.ENDS)
def test_a_directory_written_by_today_is_found_whole(end: str) -> None:
    """What will be kept of the next release can be written at any time."""
    world, node = write_directory(Path(sys.executable), "today", end)
    try:
        use(node.data_dir, world, ("look",))
    finally:
        node.end()


def test_a_newer_format_is_refused_with_a_clear_text(tmp_path: Path) -> None:
    """And left as it is: docs/durability-format.md says what a release does that is too old."""
    data = tmp_path / "data"
    fixtures.unpack(fixtures.names()[-1], data)
    line = b"leveret data format %d" % (FORMAT + 1)
    for name in ("FORMAT", "FORMAT.copy"):
        (data / name).write_bytes(b"%s %08x\n" % (line, zlib.crc32(line)))
    before = contents(data)
    node = Node(data_dir=data)
    try:
        node.launch()
        assert node.process is not None
        assert node.process.wait(20) == 1
        told = f"{data} was written by a newer release (format {FORMAT + 1}, this one knows {FORMAT}): use that one"
        assert told in node.output()
    finally:
        node.end()
    assert contents(data) == before


@pytest.mark.parametrize("name", fixtures.names())
def test_it_can_be_checked_before_it_is_upgraded(name: str, tmp_path: Path) -> None:
    """`leveret data check` reads every format, and changes nothing: the older release can still be started."""
    fixtures.unpack(name, tmp_path)
    before = contents(tmp_path)
    command = [sys.executable, "-m", "broker", "data", "check", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "0 damages"), result.stdout + result.stderr
    assert contents(tmp_path) == before
