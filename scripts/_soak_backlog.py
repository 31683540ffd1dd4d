"""Backlogs in several queues, and the memory and the rates they cost: `scripts/soak backlog`.

Each mixture runs on a fresh node whose queues may take a small share of a small watermark, some rounds in a row, and
beside it on a node whose queues fit into memory. A round passes when
- it drains at half the rate of that node at least (so do those who consume while others publish, where that is what is
  asked for),
- the node's resident memory stays below the budget of its queues plus 100 MiB,
- and is back to what it was before plus 100 MiB within 60 s of the drain,
- and no message was lost, doubled or out of order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

import uvloop

from broker.perf.load import Broken
from broker.perf.run import cpu_seconds, resident_mib
from scripts._backlog_load import Group, Load, SlowReceiver, load
from tests.support.node import Node

WATERMARK: Final = 600_000_000
WATERMARK_REFERENCE: Final = 6_000_000_000
PAGING_RATIO: Final = 0.5
MARGIN_MIB: Final = 100
BACK_S: Final = 60.0
SETTLE_S: Final = 0.5
SHARE_MIN: Final = 0.5
SCALE: Final = 0.25
FITS: Final = 400_000
"""Messages of one queue that do not page on the node that has memory: it keeps 128 MiB of a queue."""
FITS_ALL: Final = 4_000_000
"""The same of all queues."""
SLOW_RATE: Final = 40_000


class Figures(NamedTuple):
    """What one round has shown."""

    messages: int
    published_per_s: float
    consumed_per_s: float
    """While others published; 0 if nobody did."""
    drained_per_s: float
    seconds: float
    wrong: int
    """Messages lost, doubled or out of order."""


class Round(NamedTuple):
    """The same with what the node has used."""

    figures: Figures
    cpu_us: float
    """Of the node, for each message."""
    peak_mib: float
    back_s: float
    """Until memory was back, -1 if it was not."""
    after_mib: float
    read_mib: float
    """That the node has read, from sockets and files."""
    written_mib: float
    disk_mib: float
    """What the data directory has when memory is back."""


Mixture = Callable[[Load, float, bool], Awaitable[Figures]]
MIXTURES: Final[dict[str, tuple[Mixture, int]]] = {}
"""By their names, and how many rounds each has."""


def mixture(rounds: int) -> Callable[[Mixture], Mixture]:
    """Adds a mixture under its name."""

    def add(function: Mixture) -> Mixture:
        MIXTURES[function.__name__] = (function, rounds)
        return function

    return add


class Watch:
    """Rates from one moment to another."""

    def __init__(self, *groups: Group) -> None:
        self._groups = groups
        self.began = time.monotonic()
        self._published = self.published()
        self._consumed = self.consumed()

    def published(self) -> int:
        """By all."""
        return sum(group.published() for group in self._groups)

    def consumed(self) -> int:
        """By all."""
        return sum(group.consumed() for group in self._groups)

    def seconds(self) -> float:
        """Since it was made."""
        return max(time.monotonic() - self.began, 1e-6)

    def rates(self) -> tuple[float, float]:
        """Published and consumed per second since it was made."""
        seconds = self.seconds()
        return (self.published() - self._published) / seconds, (self.consumed() - self._consumed) / seconds


async def publish(run: Load, group: Group, count: int) -> float:
    """Fill the queues with so many messages, whoever consumes; how many per second."""
    watch = Watch(group)
    group.start()
    await run.until(lambda: group.published() >= count, group.published)
    group.stop()
    return watch.rates()[0]


async def arrived(run: Load, group: Group, queues: int) -> None:
    """Returns when everything published waits in the queues, which nobody consumes."""
    last, since = -1, time.monotonic()
    while last < group.published() - group.consumed():
        await asyncio.sleep(0.05)
        found = await run.waiting(queues)
        if found != last:
            last, since = found, time.monotonic()
        elif time.monotonic() - since > BACK_S:
            raise Broken(f"{group.published() - found} messages have not arrived")


async def drain(run: Load, *groups: Group) -> float:
    """Returns when everything was consumed; how many per second."""
    watch = Watch(*groups)
    await run.until(lambda: watch.consumed() >= watch.published(), watch.consumed)
    rate = watch.rates()[1]
    for group in groups:
        group.acknowledge_all()
    return rate


def counted(group: Group, seconds: float, rates: tuple[float, float, float], *others: Group) -> Figures:
    """The figures of a round that is over."""
    every = [group, *others]
    return Figures(sum(each.published() for each in every), *rates, seconds, sum(each.wrong() for each in every))


async def _filled_then_drained(run: Load, queues: int, count: int) -> Figures:
    group = Group(run, 0, queues)
    await group.declare()
    await group.connect_producers()
    watch = Watch(group)
    await publish(run, group, count * queues)
    await arrived(run, group, queues)
    published = group.published() / watch.seconds()
    await group.connect_consumers()
    drained = await drain(run, group)
    return counted(group, watch.seconds(), (published, 0.0, drained))


@mixture(5)
async def ten_queues(run: Load, scale: float, fits: bool) -> Figures:
    """Ten producers without confirms, ten consumers that acknowledge every 50."""
    group = Group(run, 0, 10)
    await group.declare()
    await group.connect_consumers()
    await group.connect_producers()
    watch = Watch(group)
    group.start()
    await run.until(lambda: watch.seconds() >= (1.0 if fits else 4.0), group.published)
    group.stop()
    published, consumed = watch.rates()
    drained = await drain(run, group)
    return counted(group, watch.seconds(), (published, consumed, drained))


@mixture(1)
async def hundred_queues(run: Load, scale: float, fits: bool) -> Figures:
    """A hundred queues with 100,000 messages each, and then a hundred consumers."""
    return await _filled_then_drained(run, 100, FITS_ALL // 100 if fits else 100_000)


@mixture(1)
async def one_slow_consumer(run: Load, scale: float, fits: bool) -> Figures:
    """A consumer that gets a thousand messages a second of 40,000 among 99 that keep up with as much as the node
    takes."""
    fast, slow = Group(run, 0, 99), Group(run, 99, 1, slow=True)
    for group, rate in ((fast, 0.0), (slow, SLOW_RATE)):
        await group.declare()
        await group.connect_consumers()
        await group.connect_producers(rate)
    watch = Watch(fast, slow)
    fast.start(backlog_max=100_000)
    slow.start()
    await run.until(lambda: watch.seconds() >= (5.0 if fits else 15.0), fast.consumed)
    fast.stop()
    slow.stop()
    published, consumed = watch.rates()
    await drain(run, fast)
    for receiver in slow.receivers:
        assert isinstance(receiver, SlowReceiver)
        receiver.hurry()
    drained = await drain(run, slow)
    return counted(fast, watch.seconds(), (published, consumed, drained), slow)


@mixture(1)
async def far_behind(run: Load, scale: float, fits: bool) -> Figures:
    """A queue that is published to as fast as it is consumed, ten million messages behind."""
    count = FITS if fits else int(10_000_000 * scale)
    group = Group(run, 0, 1)
    await group.declare()
    await group.connect_producers()
    whole = Watch(group)
    await publish(run, group, count)
    await arrived(run, group, 1)
    await group.connect_consumers()
    watch = Watch(group)
    group.start(backlog_max=count)
    target = count * 2 + count // 2
    await run.until(lambda: group.published() >= target, group.published)
    group.stop()
    published, consumed = watch.rates()
    drained = await drain(run, group)
    return counted(group, whole.seconds(), (published, consumed, drained))


@mixture(1)
async def ten_transient(run: Load, scale: float, fits: bool) -> Figures:
    """Ten queues that need not survive the node, filled with six million messages each, and then drained."""
    return await _filled_then_drained(run, 10, FITS_ALL // 10 if fits else int(6_000_000 * scale))


@mixture(1)
async def one_transient(run: Load, scale: float, fits: bool) -> Figures:
    """One such queue."""
    return await _filled_then_drained(run, 1, FITS if fits else int(6_000_000 * scale))


# ---- the node --------------------------------------------------------------------------------------------------------


def peak_mib(pid: int, *, reset: bool = False) -> float:
    """The most resident memory that a process has had since this was last reset."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmHWM")


def transferred_mib(pid: int) -> tuple[float, float]:
    """What a process has read and written so far."""
    found = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines())
    return int(found["rchar"]) / 2**20, int(found["wchar"]) / 2**20


def disk_mib(directory: Path) -> float:
    """Bytes of the files below."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total / 2**20


def node(watermark: int) -> Node:
    """A node with that watermark."""
    share = f"vm_memory_high_watermark_paging_ratio = {PAGING_RATIO}"
    return Node(settings=[f"vm_memory_high_watermark.absolute = {watermark}", share])


async def one_round(running: Node, name: str, scale: float, *, fits: bool, idle_mib: float) -> Round:
    """One round on a running node."""
    pid = running.pid
    cpu, (read, written) = cpu_seconds(pid), transferred_mib(pid)
    peak_mib(pid, reset=True)
    async with load(running.port) as run:
        figures = await MIXTURES[name][0](run, scale, fits)
        drained_at = time.monotonic()
        cpu = cpu_seconds(pid) - cpu
        peak = peak_mib(pid)
        await asyncio.sleep(SETTLE_S)
        run.close_clients()
        after = resident_mib(pid)
        while after > idle_mib + MARGIN_MIB and time.monotonic() - drained_at < BACK_S:
            await asyncio.sleep(0.25)
            after = resident_mib(pid)
        back = time.monotonic() - drained_at if after <= idle_mib + MARGIN_MIB else -1.0
        await run.delete()
    read_after, written_after = transferred_mib(pid)
    per_message = cpu * 1e6 / max(1, figures.messages)
    return Round(
        figures, per_message, peak, back, after, read_after - read, written_after - written, disk_mib(running.data_dir)
    )


def rounds_of(name: str, count: int, scale: float, watermark: int, *, fits: bool) -> list[Round]:
    """Rounds in a row on a node of their own."""
    with node(watermark) as running:
        idle = resident_mib(running.pid)
        found = [uvloop.run(one_round(running, name, scale, fits=fits, idle_mib=idle)) for _ in range(count)]
        running.kill()  # how it ends is not the question here
        return found


# ---- the verdict -----------------------------------------------------------------------------------------------------


def faults(found: Round, reference: Round, budget_mib: float) -> list[str]:
    """What does not hold."""
    wrong: list[str] = []
    figures, best = found.figures, reference.figures
    if figures.drained_per_s < best.drained_per_s * SHARE_MIN:
        wrong.append("drain")
    if figures.consumed_per_s < best.consumed_per_s * SHARE_MIN:
        wrong.append("consume")
    if found.peak_mib > budget_mib + MARGIN_MIB:
        wrong.append("peak")
    if found.back_s < 0:
        wrong.append("memory stays")
    if figures.wrong:
        wrong.append(f"{figures.wrong} messages")
    return wrong


def median(rounds: list[Round]) -> Round:
    """The round whose drain is the median."""
    drains = [each.figures.drained_per_s for each in rounds]
    return rounds[drains.index(statistics.median_low(drains))]


COLUMNS: Final = (
    "messages",
    "publ/s",
    "cons/s",
    "drain/s",
    "us/msg",
    "peak MiB",
    "back s",
    "after MiB",
    "read MiB",
    "disk MiB",
)


def row(name: str, found: Round, verdict: str) -> str:
    """A line of the table."""
    figures = found.figures
    values = (figures.messages, figures.published_per_s, figures.consumed_per_s, figures.drained_per_s)
    used = (found.peak_mib, found.back_s, found.after_mib, found.read_mib, found.disk_mib)
    cells = (
        [f"{value:>10,.0f}" for value in values] + [f"{found.cpu_us:>10.2f}"] + [f"{value:>10,.1f}" for value in used]
    )
    return f"| {name:<27} | " + " | ".join(cells) + f" | {verdict} |"


def options(parser: argparse.ArgumentParser) -> None:
    """The command line of `scripts/soak backlog`."""
    parser.add_argument("--only", default="", metavar="NAME", help="mixtures whose name contains this")
    parser.add_argument("--rounds", type=int, default=0, help="in a row on one node (5 of ten_queues, 1 of the others)")
    parser.add_argument(
        "--scale", type=float, default=SCALE, help=f"share of the 6 and 10 million messages of a queue ({SCALE})"
    )
    parser.add_argument(
        "--watermark", type=int, default=WATERMARK, help=f"bytes; queues may take half of it ({WATERMARK})"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a round")


def _show(given: argparse.Namespace, name: str, number: str, found: Round, verdict: str) -> None:
    if given.json:
        print(json.dumps({"mixture": name, "round": number, "verdict": verdict, **found._asdict()}), flush=True)
    else:
        print(row(f"{name} {number}", found, verdict), flush=True)


def _judge(given: argparse.Namespace, name: str) -> bool:
    """Run one mixture and print it; whether it passes."""
    budget = given.watermark * PAGING_RATIO / 2**20
    count = given.rounds or MIXTURES[name][1]
    try:
        reference = median(rounds_of(name, 3, given.scale, WATERMARK_REFERENCE, fits=True))
        _show(given, name, "in memory", reference, "")
        rounds = rounds_of(name, count, given.scale, given.watermark, fits=False)
    except (Broken, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    passes = True
    for number, found in enumerate(rounds, 1):
        wrong = faults(found, reference, budget)
        passes = passes and not wrong
        _show(given, name, str(number), found, f"FAIL: {', '.join(wrong)}" if wrong else "pass")
    return passes


def main(given: argparse.Namespace) -> int:
    """Runs the mixtures; 1 if one does not pass, 2 if there is none of that name."""
    names = [name for name in MIXTURES if given.only in name]
    if not names:
        print(f"no mixture is called {given.only}: {', '.join(MIXTURES)}", file=sys.stderr)
        return 2
    if not given.json:
        print(f"| {'mixture and round':<27} | " + " | ".join(f"{column:>10}" for column in COLUMNS) + " |      |")
        print("|---|" + "--:|" * len(COLUMNS) + "---|", flush=True)
    failed = sum(not _judge(given, name) for name in names)
    if not given.json:
        limit = given.watermark * PAGING_RATIO / 2**20 + MARGIN_MIB
        print(
            f"{len(names) - failed} of {len(names)} pass (rates at least half of those in memory, peak at most "
            f"{limit:.0f} MiB)"
        )
    return 1 if failed else 0
