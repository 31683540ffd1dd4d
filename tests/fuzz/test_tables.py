"""Field tables made from the grammar, sound and bent (tables.py says what must hold)."""

from __future__ import annotations

import gc
import os
from typing import Final

import pytest

from tests.fuzz import collector
from tests.fuzz.tables import PER_BROKER, run_round
from tests.support.report import say

TABLES: Final = max(2000, int(os.environ.get("FUZZ_FRAMES", "200000")) // 20)
SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.mark.timeout(0 if TABLES > 100_000 else 300)
def test_tables(capsys: pytest.CaptureFixture[str]) -> None:
    sound = 0
    with collector.paused():
        for first in range(0, TABLES, PER_BROKER):
            sound += run_round(SEED, range(first, min(first + PER_BROKER, TABLES)))
            gc.collect()
    say(capsys, f"fuzz: {TABLES} field tables, {sound} of them sound")
    assert TABLES // 4 < sound < TABLES
