"""Every program in examples/ runs against a real node, prints what its reader is told, and leaves nothing behind."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait
from tests.support.node import Node

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
DEADLINE_S = 30.0

EXPECTED = {
    "confirms.py": """
        order 1: taken
        order 2: taken
        order 3: refused, the queue is full
        order 4: returned, NO_ROUTE
    """,
    "delayed.py": """
        sent with a delay of 400 ms
        sent with a delay of 100 ms
        came after 100 ms
        came after 400 ms
    """,
    "priority.py": """
        priority 5: put out the fire
        priority 3: answer the phone
        priority 1: tidy up
        priority 1: sweep the floor
    """,
    "publish_subscribe.py": """
        reader 1: sunny today
        reader 1: rain tomorrow
        reader 2: sunny today
        reader 2: rain tomorrow
    """,
    "retry.py": """
        attempt 1 failed, the next one in 100 ms
        attempt 2 failed, the next one in 100 ms
        attempt 3 failed, put aside
        put aside: resize the picture
    """,
    "routing.py": """
        everything: info: started
        everything: error: the disk is full
        errors: error: the disk is full
    """,
    "rpc.py": """
        the square of 3 is 9
        the square of 5 is 25
        the square of 12 is 144
    """,
    "topics.py": """
        *.temperature matches kitchen.temperature
        kitchen.# matches kitchen.temperature, kitchen.oven.temperature
        # matches kitchen.temperature, kitchen.oven.temperature, cellar.humidity
    """,
    "transactions.py": """
        before the commit: orders 0, invoices 0
        after the commit: orders 0, invoices 1
        after the rollback: orders 0, invoices 1
    """,
    "work_queue.py": """
        worker 1: task 1
        worker 2: task 2
        worker 2 goes away in the middle of task 2
        worker 1: task 2, delivered again
        worker 1: task 3
        worker 1: task 4
    """,
}


def ask(node: Node, path: str) -> Any:
    """A list of the management API."""
    login = base64.b64encode(b"guest:guest").decode()
    request = urllib.request.Request(
        f"http://{node.host}:{node.ports['management']}/api/{path}", headers={"Authorization": f"Basic {login}"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
        return json.load(response)


def left_behind(node: Node) -> dict[str, list[str]]:
    """The names of what the node has beyond what it starts with; {} when there is nothing."""
    found = {kind: [row["name"] for row in ask(node, kind)] for kind in ("connections", "channels", "queues")}
    found["consumers"] = [row["consumer_tag"] for row in ask(node, "consumers")]
    found["exchanges"] = [
        row["name"] for row in ask(node, "exchanges") if row["name"] and not row["name"].startswith("amq.")
    ]
    found["bindings"] = [row["routing_key"] for row in ask(node, "bindings") if row["source"]]
    return {kind: names for kind, names in found.items() if names}


def test_every_example_has_its_expected_output_and_its_line_in_the_readme() -> None:
    assert sorted(EXPECTED) == PROGRAMS
    readme = (EXAMPLES / "README.md").read_text()
    for name in PROGRAMS:
        assert f"[{name}]({name})" in readme, name


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_example_prints_what_it_shows_and_leaves_nothing_behind(node: Node, name: str) -> None:
    before = left_behind(node)
    environment = os.environ | {"AMQP_URL": f"amqp://guest:guest@{node.host}:{node.port}/%2f"}
    command = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines() == [line.strip() for line in EXPECTED[name].strip().splitlines()]
    with contextlib.suppress(AssertionError):  # a connection that was closed goes from the list a moment later
        wait.until(lambda: left_behind(node) == before, what="everything is gone")
    assert left_behind(node) == before
