"""Mistakes planted into a node are found by the same histories that find nothing without them, each within its time.

Reliability practice (etcd, TigerBeetle): a checker that has never found anything proves nothing. The mistakes are in
node_main.py. They need the uncompiled package, so the node is always the checkout. A disk that takes 20 ms a batch
makes the moments common in which a promise given too early is a lie; the first test shows that such a disk alone is no
violation.
"""

from __future__ import annotations

import os
import time
from typing import Final, NamedTuple

import pytest

from tests.crash.cycles import TUNING, Broken, Campaign

SLOW: Final = ("--slow-disk", "20")
BUDGET_S: Final = float(os.environ.get("LEVERET_PLANT_SECONDS", "40"))
SEED: Final = 5000
pytestmark = pytest.mark.once


class Plant(NamedTuple):
    """How a mistake is looked for, and what says that it was found."""

    actors: tuple[str, ...]
    found: tuple[str, ...]
    slow: bool = True


PLANTS: Final = {
    "confirm_before_sync": Plant(("classic", "fanout"), ("I1:", "I5:")),
    "commit_ok_before_sync": Plant(("transactions",), ("I1:", "I5:")),
    "transaction_in_two_batches": Plant(("transactions",), ("I1:", "I5:")),
    "transaction_without_its_acks": Plant(("transactions",), ("I1:", "I3:", "I5:"), slow=False),
    "settled_before_dead_lettered": Plant(("rejecting",), ("I1:", "I5:"), slow=False),
    "mark_not_written": Plant(("busy", "shared"), ("I3:",)),
    "mark_covers_what_comes_later": Plant(("classic", "busy", "shared", "rejecting"), ("I3:",), slow=False),
    "declare_ok_before_sync": Plant(("declarer",), ("I8:",)),
    "binding_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "exchange_binding_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "unbinding_with_arguments_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "arguments_of_exchanges_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "exchanges_not_internal_any_more": Plant(("declarer",), ("I8:",), slow=False),
    "delete_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "arguments_of_queues_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "bindings_of_deleted_not_journalled": Plant(("declarer",), ("I8:",), slow=False),
    "dropped_not_settled": Plant(("limited",), ("I2:", "I3:", "I5:"), slow=False),
    "purge_forgets_what_came_back": Plant(("purged",), ("I3:", "I5:"), slow=False),
    "dead_letters_transient": Plant(("rejecting",), ("I1:", "I5:"), slow=False),
    "rollback_publishes": Plant(("transactions",), ("I2:", "I3:", "I5:"), slow=False),
    "settlements_not_written": Plant(("busy",), ("I3:", "I5:"), slow=False),
    "settled_one_too_many": Plant(("busy", "shared"), ("I1:", "I5:"), slow=False),
    "second_queue_not_written": Plant(("fanout",), ("I1:", "I5:"), slow=False),
    "nothing_can_be_moved": Plant(("classic",), ("I9:",), slow=False),
    "last_batch_not_recovered": Plant(("classic", "busy"), ("I1:", "I5:", "I3:"), slow=False),
}


def campaign(actors: tuple[str, ...], *options: str) -> Campaign:
    """Histories of a node with these options."""
    return Campaign(
        SEED,
        cycles_each=4,
        command=f"node_main.py {' '.join(options)}",
        keep=False,
        actors=actors,
        tuning=(*TUNING, *options),
        interpreted=True,
        load_s=(0.05, 0.15),
    )


def test_a_slow_disk_is_no_violation() -> None:
    """What the others have in common, without a mistake."""
    histories = campaign(("classic", "busy", "fanout", "transactions", "rejecting", "declarer"), *SLOW)
    histories.run(lambda: histories.totals["cycles"] < 8)
    assert histories.totals["confirmed"] > 0


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_mistake_is_found(name: str) -> None:
    """Within the time, and by an invariant that it breaks."""
    mistake = PLANTS[name]
    histories = campaign(mistake.actors, "--plant", name, *(SLOW if mistake.slow else ()))
    end = time.monotonic() + BUDGET_S
    with pytest.raises(Broken) as found:
        histories.run(lambda: time.monotonic() < end)
    assert any(invariant in str(found.value) for invariant in mistake.found), found.value
