"""Histories of a node that is killed, started again on the same data, looked at, and loaded again.

A history has one data directory and one ledger. Each of its cycles: start (perhaps killed in the middle, several
times), compare counts and declarations, drain some of the queues and compare them message by message, load with some of
the actors, kill (now and then: stop). It ends with a drain of everything, and with all counts at zero.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tests.crash.actors import (
    BARRIER,
    SECOND_BARRIER,
    Actor,
    Consumer,
    Drainer,
    Publisher,
    Purger,
    Transactions,
    Transfers,
)
from tests.crash.declarations import Declarations, Declarer, Inspector
from tests.crash.ledger import Ledger, QueueRule
from tests.crash.link import Crowd
from tests.crash.process import CrashNode
from tests.support import wait
from tests.support.wire import WireClient, WireError

LIMIT: Final = 300
"""Of the queue `limited`: more than fits into the little memory that it has."""
RULES: Final[Mapping[str, QueueRule]] = {
    "classic": QueueRule(),
    "busy": QueueRule(),
    "shared": QueueRule(ordered=False),
    "fanout-1": QueueRule(),
    "fanout-2": QueueRule(),
    "fanout-transient": QueueRule(durable=False),
    "tx-1": QueueRule(),
    "tx-2": QueueRule(),
    "priority": QueueRule(ordered=False),
    "rejecting": QueueRule(dead_letters_to="dead"),
    "dead": QueueRule(ordered=False, dead_letters=True),
    # What was dropped shortly before a crash may be back.
    "limited": QueueRule(ordered=False, dead_letters_to="overflow", limit=LIMIT),
    "overflow": QueueRule(ordered=False, dead_letters=True),
    "purged": QueueRule(),
    BARRIER: QueueRule(),
    SECOND_BARRIER: QueueRule(),
}
ARGUMENTS: Final[Mapping[str, Mapping[str, object]]] = {
    "priority": {"x-max-priority": 4},
    "rejecting": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"},
    "limited": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "overflow", "x-max-length": LIMIT},
}
SETS: Final = (
    ("classic",), ("busy",), ("shared",), ("fanout-1",), ("fanout-2",), ("fanout-transient",), ("tx-1",), ("tx-2",),
    ("priority",), ("rejecting", "dead"), ("limited", "overflow"), ("purged",), (SECOND_BARRIER,), (BARRIER,),
)  # fmt: skip
"""What is drained together."""
TUNING: Final = ("--wal-file", str(1 << 20), "--segment", str(1 << 20), "--memory", str(1 << 16), "--mark-ahead", "200")
INTERNAL_ERROR: Final = "Internal error"
"""How the node logs one (broker/faults.py)."""
DRAIN_DEADLINE_S: Final = 20.0
START_DEADLINE_MS: Final = 15_000
ACTORS: Final = (
    "classic",
    "busy",
    "shared",
    "fanout",
    "transactions",
    "priority",
    "rejecting",
    "limited",
    "purged",
    "declarer",
)


class Broken(AssertionError):
    """A history that has found something; the text says what, and how to see it again."""


class History:
    """One data directory, one ledger, many cycles. `seed` draws the load and the moments of the kills."""

    def __init__(
        self,
        seed: int,
        data_dir: Path,
        *,
        tuning: Iterable[str] = TUNING,
        interpreted: bool = False,
        actors: Iterable[str] = ACTORS,
        load_s: tuple[float, float] = (0.02, 0.3),
        settings: Iterable[str] = (),
        wrapper: Iterable[str] = (),
        restless: bool = True,
        queue_type: str = "classic",
    ) -> None:
        """`settings` and `wrapper` are the node's; `restless`: some starts are killed; `queue_type`: of all durable
        queues."""
        self.seed = seed
        self.random = random.Random(seed)
        self.ledger = Ledger(RULES, keeps_transient=queue_type == "quorum")
        self.declarations = Declarations()
        self.node = CrashNode(data_dir, tuning=tuning, interpreted=interpreted, settings=settings, wrapper=wrapper)
        self.restless = restless
        self.queue_type = queue_type
        self.actors = list(actors)
        self.load_s = load_s
        self.met: Counter[str] = Counter()
        """What has happened, for those who ask whether anything did."""
        self.slowest_start_s = 0.0
        self._made = False
        self._crowds: list[Crowd] = []

    # one cycle

    def run(self, cycles: int) -> None:
        """Cycles, then the end.

        Raises: Broken at the first violation
        """
        try:
            with self.explained():
                for _ in range(cycles):
                    self.cycle()
                self.finish()
        finally:
            self.end()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Whatever a client runs into (the node is gone, it says something strange) is `Broken`, with what the node has
        printed."""
        try:
            yield
        except (WireError, AssertionError, OSError) as error:
            if isinstance(error, Broken):
                raise
            raise Broken(f"{type(error).__name__}: {error}\n{self.node.output()[-3000:]}") from error

    def end(self) -> None:
        """Make sure that nothing is left of the node and its clients."""
        self.node.end()
        for crowd in self._crowds:
            crowd.close()

    def crowd(self, actors: Iterable[Actor]) -> Crowd:
        """These actors, to be run together."""
        made = Crowd([actor.link for actor in actors])
        self._crowds = [crowd for crowd in self._crowds if not crowd.closed] + [made]
        return made

    def cycle(self) -> None:
        """Start, look, load, kill.

        Raises: Broken
        """
        self.start()
        self.inspect(0.3)
        crowd, actors = self.load()
        if self.random.random() < 0.1:
            self.stop(crowd, actors)
        else:
            self.kill(crowd)
        self.met["cycles"] += 1
        self.judge()

    def judge(self) -> None:
        """Raises: Broken if anything is wrong so far"""
        if self.ledger.violations:
            shown = "\n".join(map(str, self.ledger.violations[:10]))
            raise Broken(f"{len(self.ledger.violations)} violations\n{shown}")

    def start(self) -> None:
        """Start; sometimes the start is killed, and perhaps the next one too."""
        node = self.node
        while self.restless and self.random.random() < 0.15:
            node.launch()
            if self.random.random() < 0.8:
                wait.until(node.is_starting, START_DEADLINE_MS)
            time.sleep(self.random.random() * 0.15)  # the moment of the kill is what is random here
            node.kill()
            self.look_for_mistakes()
            self.met["starts killed"] += 1
        began = time.monotonic()
        node.launch()
        try:
            node.await_start(START_DEADLINE_MS)
        except AssertionError as error:
            self.ledger.broken("I7", str(error))
            self.judge()
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - began)

    def inspect(self, drained: float) -> None:
        """Declarations and counts, and this share of the queues message by message."""
        host, port = self.node.host, self.node.port
        if not self._made:
            self._declare()
        elif "declarer" in self.actors:
            with closing(WireClient(host, port)) as client:
                Inspector(client, self.declarations, self.ledger).run()
        counts = self._counts()
        for queue, count in counts.items():
            self.ledger.check_count(queue, count, "queue.declare-ok")
        for queues in SETS:
            if self.random.random() < drained:
                self._drain(queues)
        self.judge()

    def _declare(self) -> None:
        with self._client() as client:
            client.ask(1, "exchange.declare", exchange="fanout", type="fanout", durable=True)
            for queue, rule in RULES.items():
                if rule.durable:
                    arguments = {"x-queue-type": self.queue_type} | dict(ARGUMENTS.get(queue, {}))
                    client.ask(1, "queue.declare", queue=queue, durable=True, arguments=arguments)
            for queue in ("fanout-1", "fanout-2"):
                client.ask(1, "queue.bind", queue=queue, exchange="fanout")
        self._made = True

    @contextmanager
    def _client(self) -> Iterator[WireClient]:
        """A client with a channel, which says goodbye."""
        with closing(WireClient(self.node.host, self.node.port)) as client:
            client.handshake()
            client.open_channel()
            yield client
            client.goodbye()

    def _counts(self) -> dict[str, int]:
        with self._client() as client:
            client.ask(1, "queue.declare", queue="fanout-transient")
            client.ask(1, "queue.bind", queue="fanout-transient", exchange="fanout")
            return {
                queue: client.ask(1, "queue.declare", queue=queue, passive=True).number("message_count")
                for queue in RULES
            }

    def _drain(self, queues: tuple[str, ...]) -> None:
        self.ledger.begin_drain(*queues)
        counts = self._counts()
        for queue in queues:
            drainer = Drainer("drain", self.ledger, self._fork(), self.node.host, self.node.port, queue, counts[queue])
            crowd = self.crowd([drainer])
            done = crowd.run(drainer.is_done, time.monotonic() + DRAIN_DEADLINE_S)
            crowd.close()
            if not done or drainer.received != counts[queue] or drainer.rest:
                text = (
                    f"{queue} held {counts[queue]} messages by its count, {drainer.received} came and "
                    f"{drainer.rest} are left"
                )
                state = "runs" if self.node.is_running() else "has ended"
                self.ledger.broken("I5", f"{text}; the node {state}\n{self.node.output()[-2000:]}")
            if not done:
                self.judge()
        self.ledger.drain(*queues)
        self.met["queues drained"] += len(queues)
        self.judge()

    # load

    def _fork(self) -> random.Random:
        return random.Random(self.random.getrandbits(64))

    def load(self) -> tuple[Crowd, list[Actor]]:
        """Some of the actors at work, until a random moment."""
        chosen = [name for name in self.actors if self.random.random() < 0.6] or [self.random.choice(self.actors)]
        actors = [actor for name in chosen for actor in self.make(name)]
        crowd = self.crowd(actors)
        crowd.run(lambda: False, time.monotonic() + self.random.uniform(*self.load_s))
        for actor in actors:
            if isinstance(actor, Consumer):
                self.met["deliveries left"] += len(actor.unacked)
        return crowd, actors

    def make(self, name: str) -> list[Actor]:
        """The actors of one kind of load."""
        host, port = self.node.host, self.node.port
        ledger = self.ledger
        chance = self.random.random

        def publisher(queue: str, **options: object) -> Actor:
            values: dict[str, object] = {
                "exchange": "",
                "routing_key": queue,
                "queues": [queue],
                "window": self.random.choice((20, 300)),
            }
            return Publisher(f"publisher of {queue}", ledger, self._fork(), host, port, **(values | options))  # type: ignore[arg-type]

        def consumer(queue: str, number: int = 1, **options: float) -> Actor:
            prefetch = self.random.choice((1, 30, 300))
            return Consumer(
                f"consumer {number} of {queue}", ledger, self._fork(), host, port, queue, prefetch=prefetch, **options
            )

        if name == "classic":
            actors = [publisher("classic", transient=0.1, large=0.01 if chance() < 0.3 else 0.0)]
            return actors + ([consumer("classic", lazy=0.05)] if chance() < 0.3 else [])
        if name == "busy":
            return [publisher("busy"), consumer("busy", lazy=0.01, requeue=0.05)]
        if name == "shared":
            return [publisher("shared"), *(consumer("shared", number, requeue=0.02) for number in range(3))]
        if name == "fanout":
            queues = ["fanout-1", "fanout-2", "fanout-transient"]
            actors = [publisher("fanout", exchange="fanout", routing_key="any", queues=queues)]
            return actors + [consumer(queue) for queue in queues if chance() < 0.4]
        if name == "transactions":
            actors = [Transactions("transactions", ledger, self._fork(), host, port, ["tx-1", "tx-2"])]
            if chance() < 0.4:
                return [*actors, Transfers("transfers", ledger, self._fork(), host, port, "tx-1", "tx-2")]
            return actors + ([consumer("tx-1")] if chance() < 0.3 else [])
        if name == "priority":
            return [
                publisher("priority", priorities=6),
                *([consumer("priority", requeue=0.05)] if chance() < 0.5 else []),
            ]
        if name == "rejecting":
            return [publisher("rejecting"), consumer("rejecting", reject=0.3, requeue=0.05, lazy=0.02)]
        if name == "limited":
            return [publisher("limited"), *([consumer("limited", requeue=0.05, lazy=0.02)] if chance() < 0.5 else [])]
        if name == "purged":
            return [Purger("purger", ledger, self._fork(), host, port, "purged")]
        return [Declarer("declarer", ledger, self._fork(), host, port, self.declarations)]

    # the end of a load

    def kill(self, crowd: Crowd) -> None:
        """SIGKILL; what the node had sent before counts."""
        at = time.monotonic()
        if self.node.process is not None:  # it may have ended by itself
            self.node.kill()
        crowd.read_to_end()
        crowd.close()
        self.look_for_mistakes()
        self.ledger.crash(at)
        self.met["kills"] += 1

    def stop(self, crowd: Crowd, actors: list[Actor]) -> None:
        """SIGTERM under load: the node ends in order and within its time, and what it has sent is known."""
        process = self.node.process
        assert process is not None
        process.terminate()
        crowd.run(lambda: all(actor.link.ended for actor in actors), time.monotonic() + 5)
        status = self.node.wait_for_end(5)
        crowd.read_to_end()
        crowd.close()
        if status:
            self.ledger.broken("I7", f"SIGTERM: exit status {status}\n{self.node.output()}")
        self.look_for_mistakes()
        self.ledger.stop()
        self.met["stops"] += 1

    def finish(self) -> None:
        """Drain everything: all counts are zero, also those of the management API.

        Raises: Broken
        """
        self.start()
        self.inspect(1.0)
        counts = self._counts() | self._api_counts()
        left = {queue: count for queue, count in counts.items() if count and not queue.startswith(SECOND_BARRIER)}
        if left:
            self.ledger.broken("I5", f"left after the last drain: {left}")
        self.judge()
        self.node.stop()
        self.look_for_mistakes()
        self.judge()

    def look_for_mistakes(self) -> None:
        """The node has ended: whether it has logged an exception that nobody expected."""
        output = self.node.output()
        at = output.find(INTERNAL_ERROR)
        if at >= 0:
            self.ledger.broken("I9", output[at : at + 3000])

    def _api_counts(self) -> dict[str, int]:
        request = urllib.request.Request(f"http://{self.node.host}:{self.node.ports['management']}/api/queues")
        request.add_header("authorization", "Basic " + base64.b64encode(b"guest:guest").decode())
        with urllib.request.urlopen(request, timeout=10) as response:
            queues = json.load(response)
        return {f"{queue['name']} (API)": queue["messages"] for queue in queues}


class Campaign:
    """Histories one after the other, and what they add up to."""

    def __init__(
        self,
        seed: int,
        *,
        cycles_each: int = 20,
        command: str = "scripts/soak crash",
        keep: bool = True,
        **options: object,
    ) -> None:
        self.seed = seed
        self.cycles_each = cycles_each
        self.command = command
        self.keep = keep
        """Whether the data directory of a failure stays."""
        self.options = options
        self.totals: Counter[str] = Counter()
        self.slowest_start_s = 0.0
        self.oldest_repeated_ack_ms = 0.0

    def run(self, goes_on: Callable[[], bool]) -> None:
        """Histories, while `goes_on()`.

        Raises: Broken, with the seed and the folder that is kept
        """
        while goes_on():
            folder = Path(tempfile.mkdtemp(prefix="leveret-crash-"))
            history = History(self.seed, folder / "data", **self.options)  # type: ignore[arg-type]
            try:
                history.run(self.cycles_each)
            except Broken as error:
                if not self.keep:
                    shutil.rmtree(folder)
                again = f"{self.command} --seed {self.seed} --cycles {self.cycles_each}"
                raise Broken(
                    f"seed {self.seed}, after {dict(history.met)}; again: {again}; data: {folder}\n{error}"
                ) from error
            finally:
                self._add(history)
            shutil.rmtree(folder)
            self.seed += 1

    def _add(self, history: History) -> None:
        self.totals.update(history.met)
        self.totals.update(history.ledger.counts)
        self.totals["declarations changed"] += history.declarations.changes
        self.slowest_start_s = max(self.slowest_start_s, history.slowest_start_s)
        self.oldest_repeated_ack_ms = max(self.oldest_repeated_ack_ms, history.ledger.oldest_repeated_ack_ms)

    def __str__(self) -> str:
        shown = ", ".join(f"{count} {name}" for name, count in self.totals.items())
        return (
            f"{shown}; slowest start {self.slowest_start_s:.2f} s, oldest ack that came again "
            f"{self.oldest_repeated_ack_ms:.1f} ms"
        )
