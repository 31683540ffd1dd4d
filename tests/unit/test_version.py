"""The version (broker/version.py), CHANGELOG.md and the data directories kept of each release belong together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from broker.version import VERSION
from tests.upgrade import fixtures

pytestmark = pytest.mark.once

CHECKOUT = Path(__file__).resolve().parents[2]
HEADINGS = re.findall(r"^## (\S+)( \(unreleased\))?$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_changelog_begins_with_this_version() -> None:
    assert HEADINGS[0][0] == VERSION
    assert not any(unreleased for _, unreleased in HEADINGS[1:]), "a version that stands below another one was released"


def test_of_every_release_two_data_directories_are_kept() -> None:
    """docs/durability-format.md, "Upgrades and downgrades", has the command that writes them."""
    kept = [folder.name for folder in fixtures.folders()]
    for version, unreleased in HEADINGS:
        if not unreleased:
            assert any(name.endswith(f"-{version}") for name in kept), (
                f"no data directory of {version} in {fixtures.KEPT}"
            )
