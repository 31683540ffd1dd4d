"""Composition root: builds a node from its configuration, in order, and stops it in reverse. No logic of its own."""

from __future__ import annotations

import asyncio
import platform
import signal
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from broker import build
from broker.auth.users import Users
from broker.clock import Clock
from broker.collecting import Collector
from broker.counters import Counters
from broker.inventory import declared_now
from broker.logsetup import get_logger
from broker.management.listener import Listening
from broker.management.listener import listen as listen_management
from broker.metadata.journal import Journal, replay
from broker.metadata.journal import declared as declarations
from broker.metrics.listener import listen as listen_metrics
from broker.net.admission import Admission, raise_limit
from broker.net.http import HttpListener
from broker.net.listener import listen
from broker.net.loop import LoopWaker
from broker.net.ports import Port
from broker.net.watchdog import Watchdog
from broker.protocol.limits import Limits
from broker.protocol.server import Identity, Server
from broker.store.batch_reader import READ_MEMORY_MAX
from broker.store.datadir import DataDirError
from broker.store.disk_error import DiskError
from broker.store.logs import UNWRITTEN_MAX
from broker.store.real_filesystem import RealFileSystem
from broker.store.store import Store, StoreOwner
from broker.storelog import StoreLog, tell_findings
from broker.trimming import Trimmer
from broker.turn import Turn
from broker.version import VERSION
from broker.watermarks import Probe, Watcher, queue_memory, total_memory, watermarks

if TYPE_CHECKING:
    from broker.config import Config

COMPATIBLE_VERSION: Final = "3.13.7"
"""The RabbitMQ whose reply codes, texts, defaults and limits are ours; client libraries choose behaviour by it."""
_DRAIN_S: Final = 4.0
_HTTP_DRAIN_S: Final = 0.3
_SWITCH_INTERVAL_S: Final = 0.0005
"""How long the thread that writes the log waits for a busy event loop: at the default of 5 ms, a sync of 0.1 ms takes 5
ms."""

_log = get_logger("node")


def make_server(config: Config, turn: Turn, counters: Counters, store: Store | None = None) -> Server:
    """The node's state, before any port is open; with what ``store`` has found, if there is one."""
    limits = Limits()
    limits.connections_max = config.max_connections
    limits.node_channels_max = config.channel_max_per_node
    limits.channel_max = config.channel_max
    limits.frame_max = config.frame_max
    limits.heartbeat_s = config.heartbeat
    limits.message_size_max = config.max_message_size
    limits.handshake_timeout_ms = config.handshake_timeout
    limits.send_timeout_ms = config.send_timeout
    limits.consumer_timeout_ms = config.consumer_timeout
    limits.consumers_per_channel_max = config.consumer_max_per_channel
    limits.prefetch_default = config.default_consumer_prefetch
    users = Users(frozenset(config.loopback_users))
    users.put(config.default_user, config.default_pass, ("administrator",))
    leveret = config.identity == "leveret"
    identity = Identity(
        product="Leveret" if leveret else "RabbitMQ",
        product_version=VERSION if leveret else COMPATIBLE_VERSION,
        version=VERSION,
        platform=f"Python {platform.python_version()}",
        cluster_name=config.cluster_name or config.node_name,
        node=config.node_name,
    )
    server = Server(identity, users, limits, turn, counters)
    budget = queue_memory(config, total_memory())
    # what is on the way to the disk and back counts as well
    server.queue_memory.limit = max(budget - UNWRITTEN_MAX - READ_MEMORY_MAX, budget // 2)
    if store is not None:
        restore(server, store, config.default_vhost)
    else:
        server.add_vhost(config.default_vhost)
    return server


def restore(server: Server, store: Store, default_vhost: str) -> None:
    """Bring back what the disk holds, and let the store work from now on."""
    server.logs = store.logs
    server.damage = store.damage
    server.journal = Journal(store.wal.batch, store.logs.promises, store.compactor.edits.declarations.add)
    server.add_vhost(default_vhost)
    store.log_recovery.settle_missing()
    for declared in declarations(replay(store.changes)):
        vhost = server.vhosts.get(declared.vhost) or server.add_vhost(declared.vhost)
        vhost.recover(declared)
    store.compactor.edits.declared = partial(declared_now, server.vhosts)
    store.begin({number for vhost in server.vhosts.values() for number in vhost.log_numbers()}, server.turn)


class _Stop:
    """How a node is told to end: by a signal, or because its log cannot be written."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.forced = asyncio.Event()
        """Asked twice: clients are not waited for."""

    def on_signal(self) -> None:
        if self.asked.is_set():
            self.forced.set()
        self.asked.set()

    def on_disk_failure(self, error: Exception) -> None:
        _log.critical("The log cannot be written: the node ends, and recovers at the next start", error=str(error))
        self.asked.set()


class _Broker(NamedTuple):
    """The node's state, with its disk open, and what drives it; no port is open."""

    server: Server
    store: Store
    waker: LoopWaker
    admission: Admission
    probe: Probe


def _open_broker(config: Config, loop: asyncio.AbstractEventLoop, stop: _Stop) -> _Broker:
    """Open the data directory, and bring back what it holds.

    Raises: DataDirError, DiskError
    """
    clock = Clock()
    turn = Turn(clock)
    waker = LoopWaker(loop, turn, clock)
    filesystem, data_dir = RealFileSystem(), str(config.data_dir.absolute())
    owner = StoreOwner(clock, loop.call_soon_threadsafe, stop.on_disk_failure)
    store = Store.open(filesystem, data_dir, owner)
    server = make_server(config, turn, Counters(), store)
    admission = Admission(raise_limit(), loop.call_later)
    loop.set_exception_handler(admission.on_loop_error)
    server.sockets_max = admission.highest
    return _Broker(server, store, waker, admission, Probe(filesystem, data_dir, store))


class _Upkeep:
    """What looks at the node again and again, beside its turns."""

    def __init__(self, config: Config, broker: _Broker) -> None:
        server, store = broker.server, broker.store
        limits = watermarks(config, total_memory())
        self._broker = broker
        self._watcher = Watcher(server.alarms, limits, broker.probe, config.memory_monitor_interval)
        self._store_log = StoreLog(store)
        self._trimmer = Trimmer(server.counters, server.queue_memory)
        self._collector = Collector(lambda: int(server.turn.reads), server.clock.monotonic_us)
        self._watchdog = Watchdog(server.clock.stopwatch)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, and tell what recovery has found."""
        store = self._broker.store
        self._watcher.start(loop.call_later)
        store.wal.on_short_of_space = self._watcher.look
        store.wal.on_direct = self._broker.waker.linger
        tell_findings(store)
        self._store_log.start(loop.call_later)
        self._trimmer.start(loop.call_later)
        self._watchdog.start(loop)

    def start_collecting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look for cycles now and then from now on; everything that a node has from its start on is there."""
        self._collector.begin()
        self._collector.start(loop.call_later)

    def stop(self) -> None:
        """Look no more."""
        self._watchdog.stop()
        self._watcher.stop()
        self._store_log.stop()
        self._trimmer.stop()
        self._collector.stop()


class _Ports(NamedTuple):
    """The ports that are open."""

    amqp: Port
    metrics: HttpListener
    management: HttpListener

    def close(self) -> None:
        """Take no more connections."""
        self.amqp.close()
        self.management.close()
        self.metrics.close()

    async def wait_closed(self) -> None:
        """Returns when the last HTTP response has left, or a little later; what is open then is cut off."""
        await self.management.wait_closed(_HTTP_DRAIN_S)
        await self.metrics.wait_closed(_HTTP_DRAIN_S)


async def _open_ports(config: Config, server: Server, admission: Admission) -> _Ports:
    """Raises: OSError if one of them is taken"""
    amqp = await listen(server, admission, config.host, config.port, config.backlog)
    metrics = await listen_metrics(server, admission, config.host, config.prometheus_port)
    listening = [
        Listening("amqp", config.host, amqp.number),
        Listening("http/prometheus", config.host, metrics.port),
    ]
    management = await listen_management(server, admission, config.host, config.management_port, listening)
    return _Ports(amqp, metrics, management)


async def _serve(config: Config, started: float) -> int:
    loop = asyncio.get_running_loop()
    stop = _Stop()
    try:
        broker = _open_broker(config, loop, stop)
    except (DataDirError, DiskError) as error:
        _log.critical("Cannot use the data directory", error=str(error))
        return 1
    upkeep = _Upkeep(config, broker)
    upkeep.start(loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.on_signal)
    try:
        ports = await _open_ports(config, broker.server, broker.admission)
    except OSError as error:
        _log.error("Cannot listen", error=str(error))
        upkeep.stop()
        broker.store.close()
        return 1
    upkeep.start_collecting(loop)
    _log.info(
        "Server startup complete",
        amqp_port=ports.amqp.number,
        management_port=ports.management.port,
        prometheus_port=ports.metrics.port,
        seconds=round(time.monotonic() - started, 3),
        descriptors=broker.admission.limit,
        build=str(build.loaded()),
    )
    await stop.asked.wait()
    return await _close(broker, upkeep, ports, stop)


async def _close(broker: _Broker, upkeep: _Upkeep, ports: _Ports, stop: _Stop) -> int:
    """Stop everything, in reverse; the exit code."""
    server, store = broker.server, broker.store
    _log.info("Stopping", connections=len(server.connections))
    ports.close()
    await _drain(server, stop.forced)
    await ports.wait_closed()
    broker.waker.stop()
    upkeep.stop()
    if store.wal.failure is None:
        on_shutdown(server)
    store.close()
    _log.info("Stopped")
    return 0 if store.wal.failure is None else 1


def on_shutdown(server: Server) -> None:
    """Nobody is served any more: what has begun since the clients were told is done whole, and the log is told what was
    delivered."""
    server.turn.drain()
    for vhost in server.vhosts.values():
        vhost.on_shutdown()


async def _drain(server: Server, force: asyncio.Event) -> None:
    """Tell every client, and wait a little until they are gone; a second signal does not wait."""
    for connection in list(server.connections.values()):
        connection.shut_down("broker forced connection closure with reason 'shutdown'")
    server.turn.drain()
    gone = asyncio.Event()
    server.when_closed = gone.set
    if not server.closing:
        return
    waiters = [asyncio.create_task(gone.wait()), asyncio.create_task(force.wait())]
    await asyncio.wait(waiters, timeout=_DRAIN_S, return_when=asyncio.FIRST_COMPLETED)
    for waiter in waiters:
        waiter.cancel()
    for connection in list(server.closing.values()):
        connection.abort()


def run(config: Config) -> int:
    """Run a node in the foreground until SIGTERM or SIGINT; its exit code. A second signal does not wait for
    clients."""
    started = time.monotonic()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        import uvloop
    except ImportError:  # no wheel for this platform: slower, not different
        return asyncio.run(_serve(config, started))
    return uvloop.run(_serve(config, started))
