"""A manifest that has lost the same in both files, at any moment of moving, rewriting and removing: nothing of the
messages is lost by it.

docs/durability-format.md, "What outlives the write-ahead log": when both files have lost the same batch.
"""

from __future__ import annotations

import random
from functools import cache

from tests.support.faulty_disk import FaultyDisk
from tests.support.kept import kept
from tests.support.store import Running, options

SITES = (
    "segment.publish",
    "segment.publish.directory",
    "manifest.write",
    "manifest.sync",
    "segment.remove",
    "wal.recycle",
    "wal.remove",
)


@cache
def moments() -> list[tuple[str, FaultyDisk]]:
    """Disks of nodes that were killed before these operations, while records moved and segments were rewritten."""
    running = Running(moving=options(own_size=4000, garbage_size=6000, small_size=12_000, small_count=2))
    found: list[tuple[str, FaultyDisk]] = []

    def note(disk: FaultyDisk, site: str) -> None:
        if site in SITES:
            found.append((site, disk.restarted()))

    disk = running.disk
    assert isinstance(disk, FaultyDisk)
    chance = random.Random(11)
    logs = [running.declare() for _ in range(3)]
    running.rest()
    disk.observer = note
    for _ in range(10):
        for log in logs:
            running.fill(log, chance.randrange(1, 5), chance.choice((200, 1500)))
            first = int(log.positions.next_live(chance.randrange(int(log.positions.next) + 1)))
            if first < log.positions.next:
                running.settle(log, first, first + chance.randrange(3))
        for _ in range(chance.randrange(30)):
            running.step()
    running.rest()
    disk.observer = None
    assert {site for site, _ in found} >= set(SITES) - {"wal.remove"}
    return found


def test_nothing_is_lost_at_any_moment() -> None:
    chance = random.Random(5)
    count = adopted = 0
    for site, state in chance.sample(moments(), 60):
        whole = Running(state.restarted())
        live = {number: whole.read(log) for number, log in whole.logs.logs.items()}
        for block in blocks_of_the_manifest(state):
            damaged = state.restarted()
            for name in damaged.names("manifest.list", "/data/manifest"):
                if name.endswith(".manifest"):
                    damaged.damage(f"/data/manifest/{name}", block * 4096, bytes(4096))
            again = Running(damaged)
            adopted += any("no manifest names it" in text for text in again.store.findings)
            for_people = kept(again)
            for number, expected in live.items():
                log = again.logs.logs.get(number)
                found = for_people.get(number, {}) if log is None else again.read(log)
                assert expected.items() <= found.items(), f"before {site}, block {block}: log {number}"
                assert log is None or log.note.value >= max(expected, default=-1)
            again.rest()
            assert not again.failures
            count += 1
    assert count > 100
    assert adopted > 20


def blocks_of_the_manifest(disk: FaultyDisk) -> list[int]:
    """Those that hold the beginning of a batch, without the last, which looks torn; at most three of them."""
    names = [name for name in disk.names("manifest.list", "/data/manifest") if name.endswith(".a.manifest")]
    content = bytes(disk.content(f"/data/manifest/{names[-1]}"))
    found = [block for block in range(2, len(content) // 4096) if content[block * 4096 : block * 4096 + 4] == b"LEVB"][
        :-1
    ]
    return found[-3:]
