"""Random numbers for a real node."""

from __future__ import annotations

import random
from typing import final

from broker.native import i64
from broker.raft.raft import Randomness


@final
class SystemRandomness(Randomness):
    """From the system's seed."""

    def __init__(self) -> None:
        self._source = random.Random()

    def below(self, limit: i64) -> i64:
        """A number from 0 to ``limit - 1``."""
        return self._source.randrange(limit)
