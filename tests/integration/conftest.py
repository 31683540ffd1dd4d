"""One node for all tests of a file; each test uses names of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.node import Node


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A running node."""
    with Node() as started:
        yield started
        assert "Traceback" not in started.output(), started.output()
