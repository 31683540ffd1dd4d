"""What a newcomer meets first names what exists: metadata, documents, continuous integration, hooks."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from broker import build

pytestmark = pytest.mark.once

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    return loaded


class TestMetadata:
    def test_the_package_in_use_carries_the_marker_of_its_types(self) -> None:
        """PEP 561: type checkers ignore an installed package without it; "Typing :: Typed" promises it."""
        assert (build.PACKAGE / "py.typed").is_file(), build.PACKAGE
        assert "Typing :: Typed" in project()["classifiers"]

    def test_the_installed_distribution_describes_itself(self) -> None:
        """Core metadata specifications: what an index shows, made by the build from pyproject.toml."""
        made = metadata.metadata("leveret")
        assert made["Name"] == "leveret"
        assert made["License-Expression"] == "Apache-2.0"
        assert made["License-File"] == "LICENSE"
        assert made["Description-Content-Type"] == "text/markdown"
        assert str(made.json["description"]).startswith("# Leveret")
        assert made.get_all("Classifier") == project()["classifiers"]

    def test_the_license_file_and_the_readme_exist(self) -> None:
        for name in (project()["readme"], *project()["license-files"]):
            assert (CHECKOUT / name).is_file(), name

    def test_every_python_from_the_required_one_on_is_a_classifier(self) -> None:
        prefix = "Programming Language :: Python :: 3."
        named = [name.removeprefix(prefix) for name in project()["classifiers"] if name.startswith(prefix)]
        assert [f"3.{minor}" for minor in named] == PYTHONS
        assert project()["requires-python"] == f">={PYTHONS[0]}"


DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"]
DOCUMENTS += [f"docs/{path.name}" for path in sorted((CHECKOUT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_to_files_lead_somewhere(document: str) -> None:
    path = CHECKOUT / document
    for target in re.findall(r"\]\(([^)#\s]+)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "SECURITY.md"])
def test_files_that_are_named_exist(document: str) -> None:
    """The recipes say where to add what: they must follow when a file moves."""
    named = re.findall(r"`((?:[\w.]+/)+[\w.]*|[\w-]+\.(?:py|toml|yml|md))`", (CHECKOUT / document).read_text())
    assert named
    for name in named:
        assert (CHECKOUT / name).exists(), name
