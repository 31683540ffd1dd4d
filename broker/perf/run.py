"""One run of the load generator: set up, warm up, measure, drain, report (`leveret perf`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence

from broker.perf.client import Control, ProducerSocket, ReceiverSocket, connect
from broker.perf.load import STAMP_SIZE, Broken, Producer, Receiver, Sent, Tally
from broker.wire import spec, table

_PAYLOAD_MAX = 131072 - 8
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


def parser() -> argparse.ArgumentParser:
    """The options of `leveret perf`."""
    options = argparse.ArgumentParser(
        prog="leveret perf", description="Load an AMQP 0-9-1 broker and report what it did, as JSON."
    )
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=5672)
    options.add_argument("--user", default="guest")
    options.add_argument("--password", default="guest")
    options.add_argument("--vhost", default="/")
    options.add_argument("--producers", type=int, default=1, help="connections that publish, spread over the queues")
    options.add_argument("--consumers", type=int, default=1, help="connections that consume, spread over the queues")
    options.add_argument("--queue", default="leveret-perf", help="name, or prefix of the names, of the queues")
    options.add_argument("--queues", type=int, default=1)
    options.add_argument("--durable", action="store_true", help="durable queues and exchange")
    options.add_argument("--exchange", default="", help="declare this exchange and bind every queue with its own name")
    options.add_argument("--type", default="direct", help="type of the exchange")
    options.add_argument("--size", type=int, default=1024, help="bytes of a body")
    options.add_argument("--persistent", action="store_true")
    options.add_argument(
        "--confirm", type=int, default=0, help="publisher confirms with this many unconfirmed messages"
    )
    options.add_argument("--ack", type=int, default=50, help="acknowledge every N deliveries; 0: automatic")
    options.add_argument("--prefetch", type=int, default=1000)
    options.add_argument(
        "--rate", type=float, default=0, help="messages per second over all producers; 0: as fast as it goes"
    )
    options.add_argument("--seconds", type=float, default=5, help="measured time")
    options.add_argument("--warmup", type=float, default=1)
    options.add_argument("--drain", type=float, default=20, help="seconds to wait for the rest afterwards")
    options.add_argument(
        "--backlog",
        type=int,
        default=0,
        help="publish only while fewer messages than this wait for the consumers; 0: always",
    )
    options.add_argument("--keep", action="store_true", help="leave queues, messages and exchange behind")
    options.add_argument("--verify", action="store_true", help="exit 3 if a message was lost, doubled or reordered")
    options.add_argument("--pid", type=int, default=0, help="the broker's process: report its CPU and memory")
    return options


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far; 0 without a pid."""
    if not pid:
        return 0.0
    with open(f"/proc/{pid}/stat", encoding="ascii") as source:
        fields = source.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def resident_mib(pid: int) -> float:
    """Resident memory of a process in MiB; 0 without a pid."""
    if not pid:
        return 0.0
    with open(f"/proc/{pid}/statm", encoding="ascii") as source:
        return int(source.read().split()[1]) * _PAGE_SIZE / 2**20


class Run:
    """One run. Raises Broken when the broker closes a connection."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tally = Tally(max(1, options.producers), options.queues)  # a backlog has a producer, too: an earlier run's
        if options.exchange and options.type == "fanout":
            self.tally.copies = options.queues
        self._broken: asyncio.Future[None] | None = None
        self._control: Control | None = None

    def queue_name(self, index: int) -> str:
        """The name of queue number ``index``."""
        return self.options.queue if self.options.queues == 1 else f"{self.options.queue}-{index}"

    async def _connect(self) -> Control:
        given = self.options
        return await connect(given.host, given.port, given.user, given.password, given.vhost)

    async def _declare(self, control: Control) -> None:
        given = self.options
        bits = 2 if given.durable else 0
        if given.exchange:
            await control.call(
                1,
                spec.EXCHANGE_DECLARE,
                [
                    ("short", 0),
                    ("shortstr", given.exchange),
                    ("shortstr", given.type),
                    ("octet", bits),
                    ("rawtable", b""),
                ],
                spec.EXCHANGE_DECLARE_OK,
            )
        for index in range(given.queues):
            name = self.queue_name(index)
            await control.call(
                1,
                spec.QUEUE_DECLARE,
                [("short", 0), ("shortstr", name), ("octet", bits), ("rawtable", b"")],
                spec.QUEUE_DECLARE_OK,
            )
            if given.exchange:
                await control.call(
                    1,
                    spec.QUEUE_BIND,
                    [
                        ("short", 0),
                        ("shortstr", name),
                        ("shortstr", given.exchange),
                        ("shortstr", name),
                        ("octet", 0),
                        ("rawtable", b""),
                    ],
                    spec.QUEUE_BIND_OK,
                )

    async def _delete(self, control: Control) -> None:
        given = self.options
        for index in range(given.queues):
            await control.call(
                1,
                spec.QUEUE_DELETE,
                [("short", 0), ("shortstr", self.queue_name(index)), ("octet", 0)],
                spec.QUEUE_DELETE_OK,
            )
        if given.exchange:
            await control.call(
                1,
                spec.EXCHANGE_DELETE,
                [("short", 0), ("shortstr", given.exchange), ("octet", 0)],
                spec.EXCHANGE_DELETE_OK,
            )

    def _on_broken(self, text: str) -> None:
        if self._broken is not None and not self._broken.done():
            self._broken.set_exception(Broken(text))

    async def _producer(self, number: int) -> ProducerSocket:
        given = self.options
        control = await self._connect()
        if given.confirm:
            await control.call(1, spec.CONFIRM_SELECT, [("octet", 0)], spec.CONFIRM_SELECT_OK)
        key = self.queue_name(number % given.queues).encode()
        exchange = given.exchange.encode()
        arguments = b"\0\0" + bytes([len(exchange)]) + exchange + bytes([len(key)]) + key + b"\0"
        producer = Producer(
            number, self.tally, Sent(arguments, given.size, given.persistent, given.confirm, _PAYLOAD_MAX)
        )
        socket = ProducerSocket(producer, given.rate / given.producers, self._on_broken)
        if given.backlog:
            socket.backlog_max = given.backlog
        await socket.attach(control)
        return socket

    async def _consumer(self, number: int) -> ReceiverSocket:
        given = self.options
        control = await self._connect()
        queue = number % given.queues
        if given.ack:
            await control.call(
                1, spec.BASIC_QOS, [("long", 0), ("short", given.prefetch), ("octet", 0)], spec.BASIC_QOS_OK
            )
        receiver = Receiver(queue, self.tally, given.ack, given.verify)
        socket = ReceiverSocket(receiver, self._on_broken)
        await control.call(
            1,
            spec.BASIC_CONSUME,
            [
                ("short", 0),
                ("shortstr", self.queue_name(queue)),
                ("shortstr", ""),
                ("octet", 0 if given.ack else 2),
                ("rawtable", table.encode({})),
            ],
            spec.BASIC_CONSUME_OK,
        )
        await socket.attach(control)
        return socket

    async def _sleep(self, seconds: float) -> None:
        assert self._broken is not None
        await asyncio.wait([self._broken], timeout=seconds)
        if self._broken.done():
            self._broken.result()

    async def run(self) -> dict[str, object]:
        """The report. Raises Broken, OSError."""
        given = self.options
        self._broken = asyncio.get_running_loop().create_future()
        control = await self._connect()
        await self._declare(control)
        receivers = [await self._consumer(number) for number in range(given.consumers)]
        producers = [await self._producer(number) for number in range(given.producers)]
        for producer in producers:
            producer.start()
        await self._sleep(given.warmup)
        tally = self.tally
        tally.measure_from = started = time.monotonic_ns()
        tally.measuring = True
        cpu = cpu_seconds(given.pid)
        await self._sleep(given.seconds)
        tally.measuring = False
        elapsed = (time.monotonic_ns() - started) / 1e9
        cpu = cpu_seconds(given.pid) - cpu
        memory = resident_mib(given.pid)
        for producer in producers:
            producer.stop()
        lost = await self._drain() if given.consumers else 0
        for receiver in receivers:
            receiver.closing = True
        if given.keep:
            await self._settle_producers()
        else:
            await self._delete(control)
        return self._report(elapsed, cpu, memory, lost)

    async def _settle_producers(self) -> None:
        given, tally = self.options, self.tally
        deadline = time.monotonic() + given.drain
        while given.confirm and tally.total_confirmed < tally.total_published and time.monotonic() < deadline:
            await self._sleep(0.05)

    async def _drain(self) -> int:
        given, tally = self.options, self.tally
        copies = tally.copies
        deadline = time.monotonic() + given.drain
        while tally.total_consumed < tally.total_published * copies and time.monotonic() < deadline:
            await self._sleep(0.05)
        return int(tally.total_published * copies - tally.total_consumed)

    def _report(self, elapsed: float, cpu: float, memory: float, lost: int) -> dict[str, object]:
        given, tally = self.options, self.tally
        handled = int(tally.consumed if given.consumers else tally.published)
        return {
            "published_per_s": round(int(tally.published) / elapsed),
            "consumed_per_s": round(int(tally.consumed) / elapsed),
            "confirmed_per_s": round(int(tally.confirmed) / elapsed),
            "nacked": int(tally.nacked),
            "lost": lost,
            "doubled_or_reordered": int(tally.doubled),
            "skipped": int(tally.skipped),
            "latency_us": _quantiles(
                tally.latency.quantile(0.5), tally.latency.quantile(0.99), int(tally.latency.largest)
            ),
            "confirm_us": _quantiles(
                tally.confirm_latency.quantile(0.5),
                tally.confirm_latency.quantile(0.99),
                int(tally.confirm_latency.largest),
            ),
            "broker_cpu_us_per_message": round(cpu * 1e6 / handled, 3) if handled and given.pid else None,
            "broker_rss_mib": round(memory, 1) if given.pid else None,
            "seconds": round(elapsed, 2),
        }


def _quantiles(p50: int, p99: int, largest: int) -> dict[str, float]:
    return {"p50": p50 / 1000, "p99": p99 / 1000, "max": largest / 1000}


def main(argv: Sequence[str]) -> int:
    """`leveret perf`: 0 ran, 1 the broker refused or closed, 2 usage, 3 --verify found a fault."""
    given = parser().parse_args(argv)
    if given.verify and given.size < STAMP_SIZE:
        print(f"leveret perf: --verify needs --size {STAMP_SIZE} or more", file=sys.stderr)
        return 2
    try:
        import uvloop

        report = uvloop.run(Run(given).run())
    except (Broken, OSError) as error:
        print(f"leveret perf: {error}", file=sys.stderr)
        return 1
    sys.stdout.write(json.dumps(report) + "\n")
    if given.verify and (report["lost"] or report["doubled_or_reordered"]):
        return 3
    return 0
