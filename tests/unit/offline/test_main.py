"""`leveret data check` and `leveret data recover` on directories as nodes leave them. docs/durability.md, "After
damage"."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from broker.__main__ import main
from broker.store.datadir import DataDir
from broker.store.real_filesystem import RealFileSystem
from tests.support.durable import DurableBroker
from tests.support.faulty_disk import Directory, FaultyDisk, Inode
from tests.support.store import Running, options
from tests.support.wire import publish


def spill(disk: FaultyDisk, folder: Path, path: str = "/data") -> None:
    """Write what a simulated disk holds to a real one."""
    folder.mkdir(exist_ok=True)
    for name, node in disk.directory(path).cache.items():
        if isinstance(node, Directory):
            spill(disk, folder / name, f"{path}/{name}")
        else:
            (folder / name).write_bytes(bytes(node.cache))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def store_with_segments() -> FaultyDisk:
    running = Running(moving=options(own_size=3000))
    log = running.declare()
    running.fill(log, 12)
    running.rest()
    running.fill(log, 2)
    running.store.close()
    assert isinstance(running.disk, FaultyDisk)
    return running.disk.restarted()


def test_check_of_a_sound_directory_lists_its_files_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spill(store_with_segments(), tmp_path / "data")
    before = contents(tmp_path)
    assert main(["data", "check", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    for name in before:
        assert str(Path(name).relative_to(tmp_path / "data")) in said
    assert "DAMAGE" not in said
    assert "0 damages" in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["wal", "segments", "manifest", ""])
def test_check_finds_every_damaged_block(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = store_with_segments()
    count = 0
    for name, node in sorted(disk.directory(f"/data/{kind}".rstrip("/")).cache.items()):
        if not isinstance(node, Inode) or name == "LOCK" or name.endswith(".spare"):
            continue
        path = f"/data/{kind}/{name}".replace("//", "/")
        used = [at for at in range(0, len(node.cache), 4096) if any(node.cache[at : at + 4096])]
        if kind == "wal":  # the file was used before: what has another salt means nothing
            used = [at for at in used if node.cache[at + 16 : at + 24] == node.cache[16:24]]
        # Of the last batch of the log and of the last edits nobody knows whether they were promised; the rest is
        # damage.
        for at in used[:-1] if kind in ("wal", "manifest") else used:
            state = disk.restarted()
            state.damage(path, at, bytes(min(4096, len(node.cache) - at)))
            folder = tmp_path / f"{kind}{count}"
            spill(state, folder)
            assert main(["data", "check", str(folder)]) == 1, f"{path}, block {at // 4096}"
            assert "DAMAGE: " in capsys.readouterr().out
            count += 1
    assert count >= 2


def test_a_directory_that_a_node_uses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = DataDir.open(RealFileSystem(), str(tmp_path / "data"))
    for arguments in (
        ["check", str(tmp_path / "data")],
        ["recover", str(tmp_path / "data"), "--output", str(tmp_path / "out")],
    ):
        assert main(["data", *arguments]) == 2
        assert "is in use by another node" in capsys.readouterr().err
    held.close()
    assert main(["data", "check", str(tmp_path / "data")]) == 0
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "is no data directory" in capsys.readouterr().err


def test_recover_writes_the_messages_that_were_put_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a node whose manifest is gone: its queues are not declared any more, and their messages are kept."""
    broker = DurableBroker()
    client = broker.open()
    client.ask("queue.declare", queue="q", durable=True)
    client.ask("exchange.declare", exchange="e", type="fanout", durable=True)
    client.ask("queue.bind", queue="q", exchange="e", routing_key="")
    bodies = [b"%d:" % number * 20_000 for number in range(40)] + [b""]
    for body in bodies:
        client.send(publish(1, "e", "key", body, properties={"delivery_mode": 2, "message_id": "m"}))
    for _ in range(200):
        broker.advance(300)
    broker = broker.killed()
    disk = broker.disk
    assert isinstance(disk, FaultyDisk)
    for entries in (disk.directory("/data/manifest").cache, disk.directory("/data/manifest").durable):
        entries.clear()
    broker = broker.killed()
    assert broker.store.findings
    assert isinstance(broker.disk, FaultyDisk)
    spill(broker.disk, tmp_path / "data")
    before = contents(tmp_path)
    output = tmp_path / "out"
    assert main(["data", "recover", str(tmp_path / "data"), "--output", str(output)]) == 0
    assert f"{len(bodies)} messages written" in capsys.readouterr().out
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [base64.b64decode(line["body"]) for line in sorted(lines, key=lambda line: line["position"])] == bodies
    for line in lines:
        assert (line["exchange"], line["routing_key"], line["persistent"]) == ("e", "key", True)
        assert base64.b64decode(line["properties"]) == b"\x10\x80\x02\x01m"
        assert line["queue"] is None
    output.unlink()
    assert contents(tmp_path) == before


def test_recover_does_not_overwrite_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spill(store_with_segments(), tmp_path / "data")
    output = tmp_path / "out"
    output.write_text("mine")
    assert main(["data", "recover", str(tmp_path / "data"), "--output", str(output)]) == 2
    assert output.read_text() == "mine"
