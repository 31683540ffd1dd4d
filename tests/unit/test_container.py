"""What can be told about the image and the compose file without an engine: they name ports, options and files that
exist."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from broker import config

pytestmark = pytest.mark.once

CHECKOUT = Path(__file__).resolve().parents[2]
PORTS = {config.default_of(name) for name in ("port", "management_port", "prometheus_port")}


def instructions(path: Path = CHECKOUT / "Dockerfile") -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.strip().partition(" ") for line in text.splitlines())
        if word
    ]


def arguments(name: str) -> list[str]:
    return [rest for word, rest in instructions() if word == name]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for rest in arguments("ENV") for pair in shlex.split(rest))


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text())
    return loaded


class TestImage:
    def test_every_copied_file_exists_and_enters_the_build_context(self) -> None:
        allowed = {line[1:] for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        for rest in arguments("COPY"):
            words = [word for word in rest.split() if not word.startswith("--")]
            assert words[:-1], rest
            for source in words[:-1]:
                assert (CHECKOUT / source).exists(), source
                assert any(source == name or source.startswith(f"{name}/") for name in allowed), source

    def test_the_files_that_the_metadata_names_are_copied(self) -> None:
        """setuptools reads them for the wheel, and ends where one is missing."""
        project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        copied = {name for rest in arguments("COPY") for name in rest.split()}
        assert {project["readme"], *project["license-files"]} <= copied

    def test_its_environment_names_options(self) -> None:
        known = {config.environment_name(name) for name in config.options()}
        ours = {name: value for name, value in environment().items() if name.startswith("LEVERET_")}
        assert set(ours) <= known
        made = config.load(["--config", str(CHECKOUT / "conf" / "leveret.conf")], ours)
        assert (made.host, made.data_dir, made.loopback_users, made.warnings) == (
            "0.0.0.0",
            Path("/var/lib/leveret"),
            frozenset(),
            (),
        )

    def test_it_names_the_ports_that_a_node_opens_by_default(self) -> None:
        """docker-library/rabbitmq exposes the same three (AMQP, management, metrics)."""
        assert {int(port) for rest in arguments("EXPOSE") for port in rest.split()} == PORTS

    def test_it_does_not_run_as_root_and_owns_its_volume(self) -> None:
        assert arguments("USER") == ["10001:10001"]
        [volume] = arguments("VOLUME")
        assert environment()["LEVERET_DATA_DIR"] == volume
        assert any(f"install -d -o 10001 -g 10001 -m 0750 {volume}" in rest for rest in arguments("RUN"))

    def test_it_stops_by_the_signal_that_a_node_drains_on(self) -> None:
        """README, "Two commands": SIGTERM drains. A shell around the command would keep the signal to itself: exec
        form."""
        assert arguments("STOPSIGNAL") == ["SIGTERM"]
        assert arguments("ENTRYPOINT") == ['["leveret"]']
        assert arguments("CMD") == ['["serve"]']

    def test_it_fails_to_build_rather_than_run_uncompiled(self) -> None:
        [version] = {re.search(r"python:3\.(\d+)", rest)[1] for rest in arguments("FROM") if "python:" in rest}  # type: ignore[index]
        assert any(f"ls /wheels/leveret-*-cp3{version}-*.whl" in rest for rest in arguments("RUN"))

    def test_its_health_check_is_the_script_that_it_copies(self) -> None:
        [check] = arguments("HEALTHCHECK")
        assert check.endswith('CMD ["leveret-healthcheck"]')
        assert any(
            rest.endswith("scripts/healthcheck /usr/local/bin/leveret-healthcheck") for rest in arguments("COPY")
        )


class TestCompose:
    def test_it_publishes_the_default_ports_on_loopback(self) -> None:
        """guest may log in from anywhere inside the image, so the host does not offer it to the network."""
        published = [str(port).split(":") for port in compose()["services"]["broker"]["ports"]]
        assert all(address == "127.0.0.1" and outside == inside for address, outside, inside in published)
        assert {int(inside) for _, _, inside in published} == PORTS

    def test_its_environment_names_options(self) -> None:
        known = {config.environment_name(name) for name in config.options()}
        assert set(compose()["services"]["broker"]["environment"]) <= known

    def test_every_file_and_volume_that_it_mounts_exists(self) -> None:
        loaded = compose()
        mounts = [mount.split(":") for service in loaded["services"].values() for mount in service["volumes"]]
        for source, *_ in mounts:
            assert (CHECKOUT / source).is_file() if source.startswith("./") else source in loaded["volumes"], source
        assert any(mount[:2] == ["broker-data", environment()["LEVERET_DATA_DIR"]] for mount in mounts)

    def test_prometheus_waits_for_the_node_and_reads_its_metrics_port(self) -> None:
        loaded = compose()
        assert loaded["services"]["prometheus"]["depends_on"] == {"broker": {"condition": "service_healthy"}}
        scrape = yaml.safe_load((CHECKOUT / "conf" / "prometheus.yml").read_text())["scrape_configs"]
        targets = [target for job in scrape for entry in job["static_configs"] for target in entry["targets"]]
        assert targets == [f"broker:{config.default_of('prometheus_port')}"]
        assert "broker" in loaded["services"]


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A listener on a free port that hands its first connection to `answer`; yields the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)
        assert not thread.is_alive()


def health(port: int) -> int:
    return subprocess.run(
        [sys.executable, CHECKOUT / "scripts" / "healthcheck", "127.0.0.1", str(port)], check=False
    ).returncode


class TestHealthCheck:
    def test_a_node_that_answers_the_protocol_header_is_healthy(self) -> None:
        """AMQP 0-9-1 §4.2.2: the server answers the header with connection.start, a method frame on channel 0."""
        received: list[bytes] = []

        def answer(connection: socket.socket) -> None:
            received.append(connection.recv(8))
            # In two pieces: TCP keeps no boundaries.
            connection.sendall(b"\x01")
            connection.sendall(b"\x00\x00\x00\x00\x01\xc5")

        with server(answer) as port:
            assert health(port) == 0
        assert received == [b"AMQP\x00\x00\x09\x01"]

    @pytest.mark.parametrize("said", [b"", b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request\r\n"])
    def test_anything_else_on_the_port_is_not(self, said: bytes) -> None:
        with server(lambda connection: connection.sendall(said)) as port:
            assert health(port) == 1

    def test_nothing_on_the_port_is_not(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        assert health(port) == 1
