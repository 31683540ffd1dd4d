"""Every operation of a whole store fails: nothing promised is lost, only the log ends the node, the next start works.

docs/durability-format.md, "Promises": an error while records move, in a segment or in the manifest, is tried again.
"""

from __future__ import annotations

import errno
import random
from collections import Counter
from functools import cache

import pytest

from broker.store.disk_error import SITES, DiskError
from tests.crash.store.lives import Build, Life
from tests.crash.store.past import Past
from tests.crash.store.search import Violation
from tests.support.faulty_disk import Fault, FaultyDisk

SEEDS = (5, 9)
"""Of two runs that come past every site."""
ACTS = 90
RARE = {
    *("datadir.format.clean", "datadir.lock.read", "quarantine.open", "quarantine.clean"),
    *("segment.keep", "segment.read", "wal.cut", "wal.cut.sync", "wal.discard"),
}
"""What only a crash or damage leaves to do: tests/unit/store and test_faults.py have it."""
QUIET = {site for site in SITES if site.startswith(("segment.", "manifest.", "move.", "log."))}
AT_THE_START = {
    "manifest.list",
    "manifest.open",
    "manifest.start.directory",
    "manifest.rewrite",
    "manifest.rewrite.sync",
    "segment.list",
}
"""Without these a node cannot know what it has."""


class Story:
    """The same two runs every time, with something that fails."""

    def __init__(self, *faults: Fault) -> None:
        self.disk = FaultyDisk()
        self.disk.do_make_directory("datadir.create", "/data")
        self.disk.do_sync_directory("datadir.create.directory", "/")
        self.disk.sites.clear()
        self.disk.faults += faults
        self.past = Past()
        self.failures: list[Exception] = []
        self.refused: list[DiskError] = []
        self.sites: list[str] = []
        for seed in SEEDS:
            try:
                self.run(seed)
            except DiskError as error:
                self.refused.append(error)
            self.sites += self.disk.sites
            faults_left, self.disk = self.disk.faults, self.disk.restarted()
            self.disk.faults = faults_left

    def run(self, seed: int) -> None:
        life = Life(Build(), self.disk, self.past, random.Random(seed))
        for _ in range(ACTS):
            if not life.failures:
                life.act()
        if not life.failures:
            life.rest()
        if not life.failures:
            # A crash while moving and replacing has left these.
            for name in ("segments/00000000000000ff.tmp", "manifest/00000000000000ff.tmp"):
                self.disk.make_inode(f"/data/{name}")
        self.failures += life.failures


@cache
def sites_of_the_story() -> dict[str, int]:
    """Site -> how often."""
    story = Story()
    assert not story.failures
    assert not story.refused
    return Counter(story.sites)


def test_the_story_comes_past_every_site() -> None:
    met = set(sites_of_the_story())
    elsewhere = ("quarantine.", "damage.", "page.")  # the last ones in spec/test_pages.py
    assert {site for site in set(SITES) - met if not site.startswith(elsewhere)} <= RARE
    assert met >= QUIET - RARE


def check(story: Story, what: str) -> None:
    """After a kill and after a power failure: it opens, and all that was promised is there."""
    for number, disk in enumerate([story.disk.restarted(), *story.disk.crash_states(1, 2)]):
        disk.faults = []
        try:
            life = Life(Build(), disk, story.past.copied(), random.Random(number))
            life.rest()
            life.check_content()
            life.check_segments()
        except Violation as error:
            raise AssertionError(f"{what}, disk {number}: {error}") from error


@pytest.mark.parametrize("name", ["EIO", "ENOSPC"])
def test_an_error_beside_the_log_ends_nothing_and_loses_nothing(name: str) -> None:
    for site, count in sorted(sites_of_the_story().items()):
        if site not in QUIET:
            continue
        for skip in sorted({0, count // 2}):
            what = f"{name} at {site}, number {skip}"
            story = Story(Fault("error", site, skip, getattr(errno, name)))
            assert not story.failures, what
            assert all(error.site in AT_THE_START for error in story.refused), what
            check(story, what)


@pytest.mark.parametrize("kind", ["interrupted", "short"])
def test_an_interrupted_call_or_a_short_write_is_not_even_noticed(kind: str) -> None:
    for site in sorted(QUIET & set(sites_of_the_story())):
        story = Story(Fault(kind, site, 1, 100))
        assert not story.failures, site
        assert not story.refused, site
        check(story, f"{kind} at {site}")
