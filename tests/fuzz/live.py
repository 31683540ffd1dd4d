"""Bent conversations and requests over real sockets against a real node: what test_live.py and `scripts/soak fuzz` run.

A round is some clients at once (live_victims.py, bent_http.py), in some of the rounds with an end of the node in the
middle: SIGKILL or SIGTERM, and a start on the same data. After each the node must be well: it lives, has said nothing
about a mistake of its own, holds nothing for those who are gone, has not grown, and a bystander (live_bystander.py) was
served all the time.

What the clients say follows from the seed of the round; what it meets depends on the order in which the node reads.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from tests.fuzz import bent_http, live_victims
from tests.fuzz.health import SETTLE_MS, Unwell, Watcher
from tests.fuzz.in_memory import KEPT
from tests.fuzz.live_bystander import Bystander
from tests.fuzz.live_victims import LiveTally
from tests.support.node import Node

AT_ONCE: Final = 8
"""Clients at once, ..."""
IN_A_ROW: Final = 5
"""... and in the place of each, one after the other."""
HTTP_SHARE: Final = 0.25
GROWTH_MAX_MIB: Final = 128.0
"""Resident memory above its smallest since the start, when all queues are swept away."""
WARM_ROUNDS: Final = 3
KILL_CHANCE: Final = 0.03
STOP_CHANCE: Final = 0.02


def make_node(data_dir: Path) -> Node:
    """The installed node."""
    return Node(data_dir=data_dir)


class LiveFuzz:
    """A node and what happens to it: `with LiveFuzz() as fuzz: fuzz.round("7")`."""

    def __init__(
        self, make: Callable[[Path], Node] = make_node, *, restarts: float = 1.0, settle_ms: int = SETTLE_MS
    ) -> None:
        """`restarts` multiplies the chance that the node is killed or stopped in a round; `settle_ms` is how long it
        may take to give back what clients held that are gone."""
        self.settle_ms = settle_ms
        self.restarts = restarts
        self.tally = LiveTally()
        self.bystander = Bystander()
        self._folder = TemporaryDirectory(prefix="leveret-fuzz-", ignore_cleanup_errors=True)
        self.node = make(Path(self._folder.name))
        self.watcher = Watcher(self.node)
        self._rounds_of_start = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._stop()
        finally:
            self.end()

    def end(self) -> None:
        """Makes sure that nothing is left."""
        self.bystander.leave()
        self.node.end()
        self._folder.cleanup()

    def round(self, seed: str) -> None:
        """Some clients at once, and a look at the node.

        Raises: AssertionError with what is wrong
        """
        chance = random.Random(seed)
        ending = chance.random() / self.restarts if self.restarts else 1.0
        end = self._kill if ending < KILL_CHANCE else self._stop if ending < KILL_CHANCE + STOP_CHANCE else None
        try:
            asyncio.run(self._clients(chance, end))
        except AssertionError:
            self.watcher.check_output()  # what the node says about it tells more
            raise
        if end is not None:
            self._start()
        self.tally.rounds += 1
        self._rounds_of_start += 1
        self._check()

    async def _clients(self, chance: random.Random, end: Callable[[], None] | None) -> None:
        names: list[str] = []
        tasks = [asyncio.create_task(self._in_a_row(random.Random(chance.random()), names)) for _ in range(AT_ONCE)]
        try:
            if end is not None:
                await asyncio.sleep(chance.random() * 0.3)
                await asyncio.to_thread(end)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_a_row(self, chance: random.Random, names: list[str]) -> None:
        for _ in range(IN_A_ROW):
            if chance.random() < HTTP_SHARE:
                await bent_http.run_client(self.node.host, self.node.ports, chance, self.tally, names)
            else:
                await live_victims.run_client((self.node.host, self.node.port), chance, self.tally, names)

    def _check(self) -> None:
        self.watcher.check_output()
        self.watcher.check_alive()
        self.bystander.check()
        self._sweep()
        self.watcher.check_empty_handed(self.settle_ms)
        if self._rounds_of_start >= WARM_ROUNDS:
            grown = self.watcher.growth_mib()
            self.tally.growth_mib = max(self.tally.growth_mib, grown)
            if grown > GROWTH_MAX_MIB:
                raise Unwell(
                    f"the node has grown by {grown:.0f} MiB in {self._rounds_of_start} rounds, with nothing in its "
                    "queues"
                )
        self.watcher.check_output()
        self.bystander.check()

    def _sweep(self) -> None:
        """Deletes all queues and exchanges that the clients have left: each round is short of memory and names as the
        first was."""
        connection = http.client.HTTPConnection(self.node.host, self.node.ports["management"], timeout=10)
        headers = {"Authorization": bent_http.GUEST.decode()}
        try:
            for kind in ("queues", "exchanges"):
                connection.request("GET", f"/api/{kind}/%2F", headers=headers)
                for row in json.loads(connection.getresponse().read()):
                    name = row["name"]
                    if name in ("", KEPT) or name.startswith("amq.") or (kind == "queues" and row["exclusive"]):
                        continue
                    connection.request("DELETE", f"/api/{kind}/%2F/{quote(name, safe='')}", headers=headers)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status not in (204, 404):
                        raise Unwell(f"{answer.status} for DELETE of {kind} {name!r}")
        finally:
            connection.close()

    def _start(self) -> None:
        self.node.start()
        self.bystander.join(self.node)
        self.watcher = Watcher(self.node)
        self._rounds_of_start = 0
        self._sweep()  # the first request has the code of the management API imported
        self.watcher.note_baseline()
        self.watcher.check_output()

    def _kill(self) -> None:
        self._leave()
        self.node.kill()
        self.tally.kills += 1

    def _stop(self) -> None:
        self._leave()
        self.node.stop()
        self.watcher.check_output()
        self.tally.stops += 1

    def _leave(self) -> None:
        self.watcher.check_alive()
        self.bystander.leave()
        self.bystander.check()
