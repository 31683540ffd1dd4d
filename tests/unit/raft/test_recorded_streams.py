"""Our core makes of recorded events what etcd/raft v3.7.0 has made of them (tests/support/raft_recordings.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.etcd_raft import check
from tests.support.raft_recordings import FOLDER, SEEDS, read
from tests.support.raft_stream import World

RECORDED = sorted(FOLDER.glob("*.txt"))


def test_all_are_there() -> None:
    assert [path.stem for path in RECORDED] == [f"{seed:03}" for seed in SEEDS]


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_etcd_raft_has_answered(path: Path) -> None:
    events, theirs = read(path)
    world = World(events[0])
    ours = [world.answer(list(world.members.values()))]
    ours += [world.run(event) for event in events[1:]]
    check(path.name, events, ours, theirs)
