"""A real RabbitMQ for comparison: Debian's rabbitmq-server as a child process that leaves nothing behind.

The node has a name, folders, ports and an Erlang port mapper of its own, all on the loopback address, so it disturbs no
other node and no other node disturbs it. The settings that a test adds are lines of rabbitmq.conf.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.support import wait
from tests.support.wire import WireClient, WireError

SERVER: Final = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
EPMD: Final = Path("/usr/bin/epmd")
START_DEADLINE_MS: Final = 120_000
STOP_DEADLINE_S: Final = 60.0


def why_not() -> str:
    """Why no RabbitMQ can be started here; empty when it can."""
    for needed in (SERVER, EPMD):
        if not needed.exists():
            return f"no RabbitMQ to compare with: {needed} is missing (Debian's package rabbitmq-server brings it)"
    return ""


def free_ports(count: int) -> list[int]:
    """Ports on the loopback address that nobody listens on, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [int(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class RabbitMQ:
    """One running node: `with RabbitMQ() as node: ... node.port`. guest/guest may connect; the data goes when the block
    ends."""

    host: Final = "127.0.0.1"

    def __init__(self, *, settings: Iterable[str] = (), management: bool = False) -> None:
        """Chooses ports and folders; nothing runs yet."""
        self.settings = list(settings)
        self.management = management
        self.port, self.management_port, self.distribution_port, self.epmd_port = free_ports(4)
        self.folder = tempfile.TemporaryDirectory(prefix="rabbitmq-", ignore_cleanup_errors=True)
        self.home = Path(self.folder.name)
        self.output = self.home / "output"
        self.processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Starts the node and returns when a client can connect.

        Raises: AssertionError with the node's output when it does not come up.
        """
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops the node and removes its data."""
        self.stop()

    def configuration(self) -> str:
        """The node's rabbitmq.conf."""
        lines = [f"listeners.tcp.default = {self.host}:{self.port}", "loopback_users = none", *self.settings]
        if self.management:
            lines += [
                f"management.tcp.port = {self.management_port}",
                f"management.tcp.ip = {self.host}",
                "collect_statistics_interval = 250",
            ]
        return "\n".join(lines) + "\n"

    def environment(self) -> dict[str, str]:
        """What tells the server script where everything of this node lies."""
        (self.home / "rabbitmq.conf").write_text(self.configuration())
        (self.home / "enabled_plugins").write_text("[rabbitmq_management].\n" if self.management else "[].\n")
        (self.home / "rabbitmq-env.conf").touch()
        loopback = "-kernel inet_dist_use_interface {127,0,0,1}"
        return os.environ | {
            "HOME": str(self.home),
            "ERL_EPMD_ADDRESS": self.host,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": f"compare{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "rabbitmq-env.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_PID_FILE": str(self.home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{loopback} +S 1:1",
        }

    def start(self) -> None:
        """Starts port mapper and server; see `__enter__`."""
        environment = self.environment()
        with self.output.open("wb") as output:
            for command in ([str(EPMD), "-address", self.host, "-port", str(self.epmd_port)], [str(SERVER)]):
                process = subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
                self.processes.append(process)
                if len(self.processes) == 1:
                    wait.until(lambda: accepts(self.epmd_port), 10_000, "epmd listens")
        wait.until(self.is_ready, START_DEADLINE_MS, "RabbitMQ lets a client in")

    def is_ready(self) -> bool:
        """Whether a whole handshake works."""
        server = self.processes[-1]
        assert server.poll() is None, f"RabbitMQ ended with {server.returncode}:\n{self.read_output()}"
        if not accepts(self.port):
            return False
        client = WireClient(self.host, self.port)
        try:
            client.handshake()
            client.goodbye()
        except WireError:
            return False
        finally:
            client.close()
        return True

    def read_output(self) -> str:
        """What the node printed so far."""
        return self.output.read_text(errors="replace")[-20_000:]

    def stop(self) -> None:
        """Ends the processes of this node, by their ids, and removes its folders."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_DEADLINE_S)
                except subprocess.TimeoutExpired:
                    pass
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.clear()
        self.folder.cleanup()


@contextlib.contextmanager
def running(*, settings: Iterable[str] = (), management: bool = False) -> Iterator[RabbitMQ]:
    """A running node for a fixture; skips the test, saying why, where RabbitMQ is not installed."""
    reason = why_not()
    if reason:
        import pytest

        pytest.skip(reason)
    with RabbitMQ(settings=settings, management=management) as node:
        yield node


def main() -> None:
    """`python -m tests.support.rabbitmq [setting ...]`: a node in the foreground, with the management plugin, until
    Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    with RabbitMQ(settings=sys.argv[1:], management=True) as node:
        print(
            f"RabbitMQ amqp_port={node.port} management_port={node.management_port} ({time.monotonic() - started:.0f} "
            "s)",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            node.processes[-1].wait()


if __name__ == "__main__":
    main()
