"""Damage to the data of a real node: it starts, its health checks fail, `leveret data` tells and confirms.

docs/durability.md, "After damage".
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support import wait
from tests.support.node import Node
from tests.support.wire import WireClient, publish


def health(node: Node) -> tuple[int, dict[str, Any]]:
    url = f"http://127.0.0.1:{node.ports['management']}/api/health/checks/local-alarms"
    request = urllib.request.Request(
        url, headers={"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def leveret(*arguments: str) -> tuple[int, str]:
    result = subprocess.run(
        [sys.executable, "-m", "broker", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    return result.returncode, result.stdout + result.stderr


def fill(node: Node) -> None:
    with closing(WireClient(node.host, node.port)) as client:
        client.handshake()
        client.open_channel()
        client.ask(1, "confirm.select")
        client.ask(1, "queue.declare", queue="q", durable=True)
        for _ in range(20):
            client.send(publish(1, "", "q", b"x" * 5000, properties={"delivery_mode": 2}))
            client.expect("basic.ack", 1)


def test_from_damage_to_confirmation(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Node(data_dir=data) as node:
        fill(node)
        code, said = leveret("data", "check", str(data))
        assert code == 2
        assert "in use by another node" in said
    assert leveret("data", "check", str(data))[0] == 0
    (log,) = (data / "wal").glob("*.wal")
    with log.open("r+b") as file:
        file.seek(8 * 4096)
        file.write(bytes(4096))
    code, said = leveret("data", "check", str(data))
    assert code == 1
    assert "are lost" in said
    with Node(data_dir=data) as node:
        status, found = health(node)
        assert status == 503
        assert "are lost" in found["lost"][0]["what"]
        port = str(node.ports["management"])
        assert leveret("data", "confirm", "--port", port, "--password", "wrong")[0] == 1
        assert leveret("data", "confirm", "--port", port) == (0, f"{len(found['lost'])} losses confirmed\n")
        assert health(node) == (200, {"status": "ok"})
        assert "Lost data was confirmed" in node.output()
        fill(node)
    with Node(data_dir=data) as node:
        assert health(node) == (200, {"status": "ok"})


def test_one_bit_of_the_manifest_costs_nothing(tmp_path: Path) -> None:
    """Every bit of a block of either file was enough once to lose every durable queue."""
    data = tmp_path / "data"
    with Node(data_dir=data) as node:
        fill(node)
        wait.until(
            lambda: len(list((data / "manifest").glob("*.manifest"))) == 2, 5000, "what is declared is in the manifest"
        )
    for copy in "ab":
        (name,) = (data / "manifest").glob(f"*.{copy}.manifest")
        content = bytearray(name.read_bytes())
        content[2 * 4096 + 70] ^= 1
        name.write_bytes(content)
        with Node(data_dir=data) as node:
            assert health(node) == (200, {"status": "ok"})
            assert "nothing is lost" in node.output()
            with closing(WireClient(node.host, node.port)) as client:
                client.handshake()
                client.open_channel()
                assert client.ask(1, "queue.declare", queue="q", passive=True).number("message_count") == 20
        assert len(list((data / "manifest").iterdir())) == 2
