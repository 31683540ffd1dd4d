"""A real Prometheus scrapes a real node and answers queries over it. Rule: Prometheus docs; the expressions of
RabbitMQ's dashboards."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pika
import pytest

from tests.support import wait
from tests.support.node import Node
from tests.support.rabbitmq import free_ports

PROMETHEUS: Final = shutil.which("prometheus")
PROMTOOL: Final = shutil.which("promtool")

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="no Prometheus to scrape with: Debian's package prometheus brings it"
)


class Prometheus:
    """A Prometheus that scrapes one target ten times a second."""

    def __init__(self, url: str) -> None:
        self.url = url

    def api(self, path: str, **query: str) -> Any:
        """The data of an answer of its HTTP API."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}", timeout=5) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def values(self, expression: str) -> list[float]:
        """The values of an instant query."""
        return [float(series["value"][1]) for series in self.api("query", query=expression)["result"]]

    def is_up(self) -> bool:
        """Whether it has scraped its target."""
        try:
            return self.values("up") == [1.0]
        except OSError:
            return False


@contextmanager
def scraping(port: int) -> Iterator[Prometheus]:
    """Prometheus as a child process, on a free port, with its data in a folder that goes with it."""
    assert PROMETHEUS is not None
    (own,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="prometheus-") as folder:
        configuration = Path(folder, "prometheus.yml")
        configuration.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "100ms", "scrape_timeout": "100ms"},
                    "scrape_configs": [{"job_name": "leveret", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}],
                }
            )
        )
        output = Path(folder, "output")
        command = [
            PROMETHEUS,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{own}",
            "--log.level=warn",
        ]
        with output.open("wb") as stream:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{own}")
            try:
                wait.until(prometheus.is_up, 30_000, "Prometheus has scraped the node")
            except AssertionError as error:
                raise AssertionError(f"{error}\n{output.read_text(errors='replace')}") from None
            yield prometheus
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def page_of(node: Node) -> bytes:
    """The metrics page as text."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.ports['prometheus']}/metrics", timeout=5) as answer:
        data: bytes = answer.read()
    return data


def test_prometheus_scrapes_a_node_and_answers_queries_over_it() -> None:
    """RabbitMQ's dashboards multiply every series by rabbitmq_identity_info on (instance, job): it must join with all
    of them."""
    with Node() as node, scraping(node.ports["prometheus"]) as prometheus:
        connection = pika.BlockingConnection(pika.ConnectionParameters(node.host, node.port))
        channel = connection.channel()
        channel.queue_declare("q")
        channel.confirm_delivery()
        for _ in range(42):
            channel.basic_publish("", "q", b"x")
        joined = (
            " * on(instance, job) group_left(rabbitmq_cluster, rabbitmq_node) "
            'rabbitmq_identity_info{rabbitmq_node=~".+@.+"}'
        )
        for expression, value in {
            "rabbitmq_connections": 1.0,
            "rabbitmq_queue_messages_ready": 42.0,
            "rabbitmq_global_messages_received_total": 42.0,
            "rabbitmq_global_messages_confirmed_total": 42.0,
            "rabbitmq_process_open_fds > bool 5": 1.0,
        }.items():
            wait.until(lambda e=expression, v=value: prometheus.values(f"({e}){joined}") == [v], 10_000, expression)  # type: ignore[misc]
        assert prometheus.values(f"sum(rate(rabbitmq_global_messages_received_total[1m]){joined}) >= 0")
        (target,) = prometheus.api("targets")["activeTargets"]
        assert (target["health"], target["lastError"]) == ("up", "")
        kinds = {name: found[0]["type"] for name, found in prometheus.api("metadata").items()}
        assert kinds["rabbitmq_global_messages_received_total"] == "counter"
        assert kinds["rabbitmq_connections"] == "gauge"
        connection.close()


def test_promtool_finds_nothing_wrong_with_the_page() -> None:
    """Prometheus' own checker: format, and the rules of naming metrics that do not come from RabbitMQ."""
    assert PROMTOOL is not None
    with Node() as node:
        page = page_of(node)
    checked = subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True, text=False, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
