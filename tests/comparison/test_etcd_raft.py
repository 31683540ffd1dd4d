"""Our Raft core and etcd/raft v3.7.0 make the same of the same events: every field of the state, every message, in
the order in which it is sent. Rule: the Raft dissertation where the two could differ; the deliberate departures are
listed in tests/support/raft_stream.py. `scripts/soak raft-differential` runs as many streams as one likes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2]))  # for scripts/; behind the installed package

from scripts import _soak_raft_differential
from tests.support.etcd_raft import CannotBuild, Difference, EtcdRaft, check, compare

pytestmark = pytest.mark.timeout(300)  # building it may mean fetching its modules

STREAMS: Final = 60


@pytest.fixture(scope="module")
def etcd() -> Iterator[EtcdRaft]:
    try:
        running = EtcdRaft()
    except CannotBuild as error:
        pytest.skip(f"{error}; the recorded streams are compared with all the same")
    with running:
        yield running


@pytest.mark.parametrize("first", range(0, STREAMS, 10))
def test_both_make_the_same_of_the_same_events(etcd: EtcdRaft, first: int) -> None:
    for seed in range(first, first + 10):
        compare(seed, etcd)


def test_a_difference_is_told_with_the_events_before_it(etcd: EtcdRaft) -> None:
    stream = compare(0, etcd, 20)
    changed = [*stream.answers[:-1], "1 t7"]
    with pytest.raises(Difference, match=rf"(?s)this one, event {len(changed) - 1}: new .*here .*etcd/raft 1 t7"):
        check("this one", stream.lines, stream.answers, changed)


def test_as_many_streams_as_one_likes(etcd: EtcdRaft, capsys: pytest.CaptureFixture[str]) -> None:
    """`scripts/soak raft-differential`."""
    given = argparse.Namespace(seed=70, count=3, events=50)
    assert _soak_raft_differential.main(given) == 0
    assert "seeds 70-72: 3 streams, " in capsys.readouterr().out
