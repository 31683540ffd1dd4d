"""`scripts/soak fuzz` ends at the first failure, says how to see it again, and goes on from a seed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for scripts/; behind the installed package

from scripts import _soak_fuzz
from scripts._soak_fuzz import Part

pytestmark = pytest.mark.once


class Counting(Part):
    """Ten frames a round; fails at a seed."""

    bad = -1
    seeds: list[int]
    ended: list[bool]

    def __init__(self) -> None:
        type(self).seeds = []
        type(self).ended = []

    def round(self, seed: int) -> None:
        self.seeds.append(seed)
        assert seed != self.bad, "something is wrong"

    def frames(self) -> int:
        return 10 * len(self.seeds)

    def end(self, *, failed: bool) -> None:
        self.ended.append(failed)

    def __str__(self) -> str:
        return f"{len(self.seeds)} rounds"


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_soak_fuzz, "PARTS", {"memory": Counting})
    monkeypatch.setattr(_soak_fuzz, "configure", lambda *_, **__: None)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    _soak_fuzz.options(parser)
    return _soak_fuzz.main(parser.parse_args(arguments))


def test_it_ends_when_there_are_enough_frames_and_names_the_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--frames", "45", "--seed", "7") == 0
    assert Counting.seeds == [7, 8, 9, 10, 11]
    assert "seeds 7-11; memory: 5 rounds" in capsys.readouterr().out
    assert Counting.ended[0] is False


def test_it_ends_when_the_time_is_up() -> None:
    assert run("--minutes", "0.001") == 0
    assert Counting.seeds


def test_a_failure_ends_it_with_the_command_that_shows_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Counting, "bad", 9)
    assert run("--seed", "7") == 1
    said = capsys.readouterr()
    assert "seeds 7-8" in said.out
    assert "memory: AssertionError: something is wrong" in said.err
    assert "scripts/soak fuzz --only memory --seed 9 --minutes 1" in said.err
    assert Counting.ended == [True]


def test_one_kind_alone_can_be_asked_for() -> None:
    assert run("--only", "memory", "--frames", "1") == 0
    with pytest.raises(SystemExit):
        run("--only", "nothing")
