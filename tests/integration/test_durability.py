"""What a client can rely on when a node is killed or stopped and started again on its data.

docs/durability-format.md, "Promises"; RabbitMQ docs, "Consumer Acknowledgements and Publisher Confirms" (durability,
redelivered) and "Queues" (durability, temporary queues). Many kills under load: tests/crash.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.crash.cycles import History
from tests.support.node import Node
from tests.support.wire import Said, WireClient, method, publish

PERSISTENT: Final = {"delivery_mode": 2}
STOPS: Final = 4


@contextmanager
def client_of(node: Node) -> Iterator[WireClient]:
    """A client with a channel in confirm mode."""
    with closing(WireClient(node.host, node.port)) as client:
        client.handshake()
        client.open_channel()
        client.ask(1, "confirm.select")
        yield client


def send(client: WireClient, name: str, **arguments: object) -> None:
    """A method that is not waited for."""
    client.send(method(1, name, **arguments))


def publish_confirmed(
    client: WireClient, queue: str, bodies: list[bytes], properties: dict[str, object] | None = None
) -> None:
    """Publishes to the queue and returns when all is confirmed."""
    client.send(
        *(publish(1, "", queue, body, properties=PERSISTENT if properties is None else properties) for body in bodies)
    )
    confirmed = 0
    while confirmed < len(bodies):
        said = client.expect("basic.ack", 1)
        confirmed = said.number("delivery_tag") if said["multiple"] else confirmed + 1


def take_all(client: WireClient, queue: str) -> list[tuple[bytes, bool]]:
    """Body and redelivered flag of everything in a queue; all of it is acknowledged."""
    found: list[tuple[bytes, bool]] = []
    while True:
        said: Said = client.get(1, queue)
        if said.method.name == "basic.get-empty":
            return found
        found.append((said.body, bool(said.method["redelivered"])))
        send(client, "basic.ack", delivery_tag=said.method["delivery_tag"])


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_what_was_confirmed_is_there_and_what_is_transient_is_not(end: str) -> None:
    """Persistent messages in durable queues outlive the node; transient ones do not, nor do queues that are not
    durable."""
    with Node() as node:
        with client_of(node) as client:
            client.ask(1, "queue.declare", queue="durable", durable=True)
            client.ask(1, "queue.declare", queue="temporary")
            client.ask(1, "exchange.declare", exchange="routes", type="topic", durable=True)
            client.ask(1, "queue.bind", queue="durable", exchange="routes", routing_key="a.*")
            publish_confirmed(client, "durable", [b"first", b"", b"x" * 300_000])
            publish_confirmed(client, "durable", [b"transient"], {})
            publish_confirmed(client, "temporary", [b"gone with its queue"])
            client.send(publish(1, "routes", "a.b", b"routed", properties=PERSISTENT))
            client.expect("basic.ack", 1)
        if end == "kill":
            node.kill()
        else:
            node.stop()
        node.start()
        with client_of(node) as client:
            client.send(publish(1, "routes", "a.c", b"routed afterwards", properties=PERSISTENT))
            client.expect("basic.ack", 1)
            expected = [b"first", b"", b"x" * 300_000, b"routed", b"routed afterwards"]
            assert [body for body, _ in take_all(client, "durable")] == expected
            send(client, "queue.declare", queue="temporary", passive=True)
            assert client.expect("channel.close", 1)["reply_code"] == 404


def test_a_stop_keeps_redelivered_exact() -> None:
    """After SIGTERM: true for what was delivered and not acknowledged, false for what never was; what was acknowledged
    is gone."""
    with Node() as node:
        with client_of(node) as client:
            client.ask(1, "queue.declare", queue="q", durable=True)
            publish_confirmed(client, "q", [b"%d" % number for number in range(10)])
            tags = [client.get(1, "q").method["delivery_tag"] for _ in range(4)]
            send(client, "basic.ack", delivery_tag=tags[1])
            client.ask(1, "basic.qos")  # the ack has been taken
            process = node.process
            assert process is not None
            process.terminate()
            client.expect_close(320)
            assert process.wait(5) == 0, node.output()
            node.process = None
        node.start()
        with client_of(node) as client:
            found = take_all(client, "q")
        seen = {b"0", b"2", b"3"}
        assert found == [(b"%d" % number, b"%d" % number in seen) for number in range(10) if number != 1]


def test_redelivered_is_true_after_a_kill() -> None:
    """What a consumer has seen says so when it comes again; the order stays."""
    with Node() as node:
        with client_of(node) as client:
            client.ask(1, "queue.declare", queue="q", durable=True)
            publish_confirmed(client, "q", [b"%d" % number for number in range(5)])
            for _ in range(2):
                assert client.get(1, "q").method["redelivered"] is False
        node.kill()
        node.start()
        with client_of(node) as client:
            found = take_all(client, "q")
        assert [body for body, _ in found] == [b"0", b"1", b"2", b"3", b"4"]
        assert [redelivered for _, redelivered in found[:2]] == [True, True]


def test_what_is_published_after_a_kill_is_not_redelivered() -> None:
    """Only what may have been delivered before the crash says so, also when a long line has been on the disk
    meanwhile."""
    bodies = [b"%d" % number + bytes(300_000) for number in range(60)]
    with Node() as node:
        with client_of(node) as client:
            client.ask(1, "queue.declare", queue="q", durable=True)
            publish_confirmed(client, "q", [b"seen"])
            client.get(1, "q")
        node.kill()
        node.start()
        with client_of(node) as client:
            publish_confirmed(client, "q", bodies)
            found = take_all(client, "q")
        assert found[0] == (b"seen", True)
        assert [body for body, _ in found[1:]] == bodies
        assert not any(redelivered for _, redelivered in found[1:])


def test_acks_are_on_the_disk_soon() -> None:
    """docs/durability-format.md: settlements that nothing else takes along are written within 10 ms. A kill long after
    finds them there."""
    with Node() as node:
        with client_of(node) as client:
            client.ask(1, "queue.declare", queue="q", durable=True)
            publish_confirmed(client, "q", [b"%d" % number for number in range(20)])
            for _ in range(10):
                send(client, "basic.ack", delivery_tag=client.get(1, "q").method["delivery_tag"])
            client.ask(1, "basic.qos")  # the acks have been taken
            threading.Event().wait(0.5)  # time itself is what is tested
        node.kill()
        node.start()
        with client_of(node) as client:
            assert [body for body, _ in take_all(client, "q")] == [b"%d" % number for number in range(10, 20)]


def test_a_second_node_on_the_same_data_is_refused() -> None:
    """It says who has the directory and ends with status 1; the first one goes on."""
    with Node() as first:
        second = Node(data_dir=first.data_dir)
        try:
            ended = subprocess.run(second.command(), capture_output=True, text=True, timeout=20, check=False)
        finally:
            second.end()
        assert ended.returncode == 1
        said = ended.stdout + ended.stderr
        assert "in use by another node" in said
        assert str(first.pid) in said
        assert "Traceback" not in said
        with client_of(first) as client:
            client.ask(1, "queue.declare", queue="q", durable=True)


@pytest.mark.once
def test_a_stop_under_load_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SIGTERM among publishers, transactions and consumers: exit status 0 within five seconds, and every message is
    accounted for."""
    history = History(7, tmp_path / "data", restless=False)
    try:
        for _ in range(STOPS):
            history.start()
            history.inspect(0.5)
            history.stop(*history.load())
        history.finish()
    finally:
        history.end()
    with capsys.disabled():
        print(f"\nstopped nodes: {dict(history.met)}, {history.ledger.counts}")
    assert history.met["stops"] == STOPS
    assert history.ledger.counts["confirmed"] > 0
