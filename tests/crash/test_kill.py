"""A node that is killed at any moment keeps its promises: thousands of messages a cycle, and every one of them is
accounted for.

docs/durability-format.md, "Promises"; docs/crash-tests.md says what is checked. LEVERET_KILL_CYCLES sets how many
cycles there are (as many as fit into LEVERET_KILL_SECONDS if unset), LEVERET_KILL_SEED where the histories begin. The
text of a failure names its seed, the command that runs it again, and the data directory, which is kept. The long
version is `scripts/soak crash`.
"""

from __future__ import annotations

import os
import time
from typing import Final

import pytest

from tests.crash.cycles import Campaign
from tests.support.report import say

CYCLES: Final = int(os.environ.get("LEVERET_KILL_CYCLES", "0"))
SECONDS: Final = float(os.environ.get("LEVERET_KILL_SECONDS", "15"))
SEED: Final = int(os.environ.get("LEVERET_KILL_SEED", "0"))
CYCLES_EACH: Final = 10


@pytest.mark.once
@pytest.mark.timeout(120 + SECONDS + CYCLES * 5)
def test_a_killed_node_has_kept_its_promises(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing confirmed is lost, nothing is invented, redelivered is honest, order and counts hold, declarations stay,
    it starts again.

    Also when the start itself is killed, twice in a row, and with a stop in between. Load: confirms, fanout,
    transactions, consumers that acknowledge, return and reject, priorities, dead letters, transient messages, large
    messages, declarations.
    """
    campaign = Campaign(SEED, cycles_each=CYCLES_EACH, load_s=(0.02, 0.15))
    end = time.monotonic() + SECONDS
    campaign.run(lambda: campaign.totals["cycles"] < CYCLES if CYCLES else time.monotonic() < end)
    say(capsys, f"killed nodes, seeds {SEED}-{campaign.seed - 1}: {campaign}")
    totals = campaign.totals
    assert totals["cycles"] >= (CYCLES or 1)
    # The histories are not harmless: what they are about has happened.
    if totals["cycles"] >= 40:
        for name in (
            "starts killed",
            "kills",
            "stops",
            "came again",
            "deliveries left",
            "declarations changed",
            "queues drained",
        ):
            assert totals[name] > 0, name
        assert totals["confirmed"] > 100 * totals["cycles"]


@pytest.mark.once
def test_quorum_queues_keep_their_promises_too() -> None:
    """The same with quorum queues: what is not persistent survives as well."""
    campaign = Campaign(SEED + 2_000_000, cycles_each=CYCLES_EACH, load_s=(0.02, 0.15), queue_type="quorum")
    campaign.run(lambda: campaign.totals["cycles"] < CYCLES_EACH)
    assert campaign.totals["kills"] > 0
    assert campaign.totals["came again"] > 0


@pytest.mark.once
def test_small_memory_and_short_marks_change_nothing() -> None:
    """The same on the uncompiled package, where constants can be made small: lines are paged to the disk early, marks
    are written often."""
    campaign = Campaign(SEED + 1_000_000, cycles_each=CYCLES_EACH, load_s=(0.05, 0.2), interpreted=True)
    campaign.run(lambda: campaign.totals["cycles"] < CYCLES_EACH)
    assert campaign.totals["kills"] > 0
