"""How the benchmarks measure: CPU time of this process, the best of several rounds, one JSON line each.

The best round, not the mean: other work on a shared machine only ever adds. No sockets, so the figures are stable
enough to compare before and after a change; put them into the commit message. A generous ceiling is asserted, for the
mistake that costs a factor.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable


def microseconds(name: str, operations: int, run: Callable[[], object], rounds: int = 5) -> float:
    """CPU microseconds per operation: ``run`` performs ``operations`` of them. Prints the JSON line."""
    best = float("inf")
    for _ in range(rounds):
        gc.collect()
        before = time.process_time()
        run()
        best = min(best, time.process_time() - before)
    return report(name, operations, best)


def report(name: str, operations: int, seconds: float) -> float:
    """Microseconds per operation, when so many of them took ``seconds``. Prints the JSON line."""
    each = seconds * 1e6 / operations
    build = os.environ.get("LEVERET_BUILD", "unknown")
    print(json.dumps({"benchmark": name, "us": round(each, 4), "operations": operations, "build": build}))
    return each


def ceiling(compiled_us: float, interpreted_us: float) -> float:
    """The limit for the build that is loaded."""
    return compiled_us if os.environ.get("LEVERET_BUILD") == "compiled" else interpreted_us
