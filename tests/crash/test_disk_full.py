"""A full disk breaks no promise: publishers are blocked or the node ends, it starts without a free byte, is drained,
and goes on.

docs/durability-format.md, "Promises": a full disk. A real one: a tmpfs in a mount namespace, which needs root. The long
version is `scripts/soak disk`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.crash.small_disk import FullDisk, SmallDisk

pytestmark = pytest.mark.once
ALARM_BYTES: Final = 12 << 20


def skip_where_there_is_none() -> None:
    """Only root may mount."""
    missing = SmallDisk.missing()
    if missing:
        pytest.skip(missing)


def test_a_disk_that_is_filled_up_is_drained_as_it_is(tmp_path: Path) -> None:
    """Publish until publishers are blocked, take the rest of the space, kill, start with zero bytes free, drain,
    publish again; twice."""
    skip_where_there_is_none()
    with SmallDisk(tmp_path) as disk:
        full = FullDisk(disk, 1, ALARM_BYTES)
        try:
            for _ in range(2):
                full.cycle()
        finally:
            full.history.end()
        assert full.outcomes["blocked"] == 2, full.outcomes


def test_a_log_without_any_space_has_lost_nothing(tmp_path: Path) -> None:
    """Without an alarm for the disk: the node ends with a message, or sees in time that its log is short of space and
    blocks publishers.

    It starts without a free byte, and has everything when there is space again.
    """
    skip_where_there_is_none()
    with SmallDisk(tmp_path) as disk:
        full = FullDisk(disk, 2, 0)
        try:
            full.cycle()
        finally:
            full.history.end()
        assert sum(full.outcomes.values()) == 1, full.outcomes
