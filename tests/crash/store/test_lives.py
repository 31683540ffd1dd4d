"""The whole store on a disk that fails: what was promised is there after any crash, wherever it has moved; and planted
mistakes are found.

docs/durability-format.md, "Promises". LEVERET_CRASH_STATES sets how many disks are looked at (two fifths of it here,
8,000 if it is unset, 2,000 of stores with Raft groups), LEVERET_CRASH_SEED where the lives begin (0). The
text of a failure names its life: LEVERET_CRASH_SEED of one less runs it first.
"""

from __future__ import annotations

import os

import pytest

from tests.crash.store import planted_groups, planted_moves
from tests.crash.store.lives import Build, Lives
from tests.crash.store.search import Violation
from tests.support.report import say

STATES = int(os.environ.get("LEVERET_CRASH_STATES", "20000")) * 2 // 5
SEED = int(os.environ.get("LEVERET_CRASH_SEED", "0"))


@pytest.mark.timeout(100 + STATES // 50)
def test_what_was_promised_is_there_wherever_it_has_moved(capsys: pytest.CaptureFixture[str]) -> None:
    """Live positions, their content, marks and what is declared are those after some record, every promised one
    included.

    So it is after a crash at any moment of moving, rewriting and removing, in the middle of opening, and twice in a
    row.
    """
    lives = Lives(STATES, seed=SEED)
    lives.run()
    assert lives.states >= STATES
    say(capsys, f"crash states of the store: {lives.states}, {dict(lives.met)}")
    if STATES >= 8000:
        assert min(lives.met.values()) > 500, lives.met


@pytest.mark.timeout(100 + STATES // 50)
def test_members_of_raft_groups_find_what_they_were_promised(capsys: pytest.CaptureFixture[str]) -> None:
    """Entries in their order, none of those that others have replaced; term, vote and commit index; a snapshot of what
    was committed; the contents that entries have accepted and not settled.

    docs/durability-format.md, "Raft groups"; dissertation, section 3.8.
    """
    build = Build()
    build.groups = 1.0
    lives = Lives(STATES // 4, build, seed=SEED)
    lives.run()
    assert lives.states >= STATES // 4
    say(capsys, f"crash states of stores with Raft groups: {lives.states}, {dict(lives.met)}")
    if STATES >= 8000:
        assert min(lives.met.values()) > 50, lives.met


@pytest.mark.parametrize("name", [*planted_moves.FOUND_BY_LIVES, *planted_groups.FOUND_BY_LIVES])
def test_a_planted_bug_is_found_by_crashing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reliability practice (etcd, TigerBeetle): a checker that has never found anything proves nothing."""
    bug = (planted_moves.FOUND_BY_LIVES | planted_groups.FOUND_BY_LIVES)[name]
    for place, attribute, value in bug.patches:
        monkeypatch.setattr(place, attribute, value)
    with pytest.raises(Violation):
        Lives(bug.states, bug.build, seed=bug.seed).run()
