"""Bent requests to the management API (requests.py says what must hold)."""

from __future__ import annotations

import os
from typing import Final

from tests.fuzz.requests import PER_BROKER, run_round

SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))
ROUNDS: Final = 40


def test_requests() -> None:
    succeeded = sum(run_round(f"{SEED}/{number}") for number in range(ROUNDS))
    assert ROUNDS * PER_BROKER // 4 < succeeded < ROUNDS * PER_BROKER
