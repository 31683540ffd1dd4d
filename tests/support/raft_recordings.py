"""Streams of events with the answers of etcd/raft v3.7.0, written down in tests/transcripts/raft so that a machine
without Go can compare: a line for the event, and an indented one for the answer (tests/support/raft_stream.py).

    python -m tests.support.raft_recordings     writes them anew, with the streams of today's generator

They hold what tests/comparison/etcd_raft has said of streams from tests/support/raft_generator.py, and nothing of
etcd/raft's own tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.support.etcd_raft import EtcdRaft
from tests.support.raft_generator import Generator

FOLDER: Final = Path(__file__).resolve().parents[1] / "transcripts" / "raft"
SEEDS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 23, 25, 26, 28, 46, 49, 89, 101, 127)
"""The first ones, and others with which all mistakes of tests/support/raft_planted.py are found."""
EVENTS: Final = 400


def read(path: Path) -> tuple[list[str], list[str]]:
    """The events, and etcd/raft's answers."""
    lines = path.read_text().splitlines()
    return lines[0::2], [line.strip() for line in lines[1::2]]


def write(path: Path, events: list[str], answers: list[str]) -> None:
    """The same, for ``read``."""
    path.write_text("".join(f"{event}\n  {answer}\n" for event, answer in zip(events, answers, strict=True)))


def record() -> None:
    """All of them anew."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    with EtcdRaft() as etcd:
        for seed in SEEDS:
            stream = Generator(seed)
            stream.run(EVENTS)
            write(FOLDER / f"{seed:03}.txt", stream.lines, etcd.answers(stream.lines))


if __name__ == "__main__":
    record()
