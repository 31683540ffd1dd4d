"""Bent conversations against a broker in memory (in_memory.py says what must hold).

Everything follows from the seed, which is in the text of a failure.
More of it: FUZZ_FRAMES=100000000 FUZZ_SEED=7 python -m pytest tests/fuzz, or scripts/soak fuzz.
"""

from __future__ import annotations

import gc
import os
import random
from typing import Final

import pytest

from tests.fuzz import collector, conversations
from tests.fuzz.in_memory import PER_BROKER, Tally, run_round
from tests.support.memory import Broker, Client
from tests.support.report import say
from tests.support.wire import WireError, publish

FRAMES: Final = int(os.environ.get("FUZZ_FRAMES", "200000"))
SEED: Final = int(os.environ.get("FUZZ_SEED", "1"))


@pytest.mark.timeout(0 if FRAMES > 1_000_000 else 300)
def test_bent_conversations(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally()
    number = 0
    with collector.paused():
        while tally.frames < FRAMES:
            seed = f"{SEED}/{number}"
            try:
                run_round(seed, tally, FRAMES)
            except Exception as error:
                error.add_note(
                    f"seed {seed!r} (tests.fuzz.in_memory.run_round), conversation {tally.conversations % PER_BROKER}"
                )
                raise
            number += 1
            gc.collect()
    say(capsys, f"fuzz: {tally}")
    assert tally.closed_channels > 0
    assert tally.closed_connections > 0


def test_unbent_conversations_end_well() -> None:
    """The raw material is right: no conversation costs its connection when it is left alone."""
    for make in conversations.ALL:
        broker = Broker()
        client = broker.connect(frame_max=8192)
        for part in make():
            client.send(part)
        closes = [said for said in client.hear() if said.method.name == "connection.close"]
        assert closes == [], make.__name__


def test_a_client_is_served_at_once_during_the_fuzz() -> None:
    """A new client is accepted whatever the others say."""
    broker = Broker()
    chance = random.Random(SEED)
    for _ in range(50):
        bad = broker.client()
        bad.send(chance.randbytes(chance.randrange(1, 200)))
        worse = broker.open()
        try:
            worse.send(chance.randbytes(50))
        except WireError:
            pytest.fail("the broker said something that is no frame")
    good = broker.open()
    good.ask("queue.declare", queue="q")
    good.send(publish(1, "", "q", b"x"))
    assert good.drain("q") == [b"x"]
    assert isinstance(good, Client)
