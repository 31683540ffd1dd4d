"""The log on a disk that fails: every promise holds, whatever a crash leaves; and planted mistakes are found, so the
test can find any.

docs/durability-format.md, "Promises". LEVERET_CRASH_STATES sets how many disks are looked at (20,000 if unset),
LEVERET_CRASH_SEED where the histories begin (300). The text of a failure names its history: LEVERET_CRASH_SEED of one
less runs it first.
"""

from __future__ import annotations

import os

import pytest

from tests.crash.store import planted, rot
from tests.crash.store.histories import Histories
from tests.crash.store.search import Violation
from tests.support.report import say

STATES = int(os.environ.get("LEVERET_CRASH_STATES", "20000"))
SEED = int(os.environ.get("LEVERET_CRASH_SEED", "300"))


@pytest.mark.timeout(60 + STATES // 100)
def test_what_was_promised_is_there_after_any_crash(capsys: pytest.CaptureFixture[str]) -> None:
    """Promised records are recovered, in order; a batch is whole or absent; nothing else appears; opening never fails.

    Opening, losing power and opening again gives the same, also when power fails in the middle of opening.
    """
    histories = Histories(STATES, seed=SEED)
    histories.run()
    assert histories.states >= STATES
    say(capsys, f"crash states of the log: {histories.states}, sessions {histories.sessions}, {dict(histories.met)}")
    if STATES >= 20_000:
        # The histories are not harmless: what they are about has happened.
        assert min(histories.met.values()) > 50, histories.met
        assert histories.failures > 2


@pytest.mark.parametrize("name", planted.FOUND_BY_CRASHES)
def test_a_planted_bug_is_found_by_crashing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reliability practice (etcd, TigerBeetle): a checker that has never found anything proves nothing."""
    bug = planted.FOUND_BY_CRASHES[name]
    for place, attribute, value in bug.patches:
        monkeypatch.setattr(place, attribute, value)
    with pytest.raises(Violation):
        Histories(bug.states, bug.build).run()


def test_a_flipped_bit_is_found_or_does_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    """One bit, at every byte of every file: the node starts, records are the right ones or missing, and missing ones
    are told."""
    flips = rot.flip_bits()
    say(capsys, f"bits flipped in the files of the log: {flips}")
    assert flips > 15_000


def test_a_file_cut_off_anywhere_is_survived() -> None:
    """RabbitMQ 2249, LavinMQ 1693: an empty or shortened file must not keep the node from starting."""
    assert rot.cut_files() > 500


def test_a_file_that_is_gone_is_told() -> None:
    rot.remove_files()


@pytest.mark.parametrize("name", planted.FOUND_BY_ROT)
def test_a_planted_bug_is_found_by_flipping_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = planted.FOUND_BY_ROT[name]
    for place, attribute, value in bug.patches:
        monkeypatch.setattr(place, attribute, value)
    with pytest.raises(Violation):
        rot.flip_bits(bug.build)
