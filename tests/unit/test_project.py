"""What a newcomer meets first names what exists: metadata, documents, continuous integration, hooks."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

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


def load(path: str) -> dict[str, Any]:
    """A YAML file of the checkout."""
    loaded: dict[str, Any] = yaml.safe_load((CHECKOUT / path).read_text())
    return loaded


def assert_exists(command: str) -> None:
    """The program of a command is an executable file of the checkout, or one of .venv, beside this Python."""
    program = shlex.split(command)[0]
    folder, _, name = program.rpartition("/")
    path = Path(sys.executable).parent / name if folder == ".venv/bin" else CHECKOUT / program
    assert path.is_file(), command
    assert path.stat().st_mode & 0o111, command


class TestWorkflow:
    PATH = ".github/workflows/ci.yml"

    @pytest.fixture
    def jobs(self) -> dict[str, Any]:
        jobs: dict[str, Any] = load(self.PATH)["jobs"]
        return jobs

    def test_it_runs_the_suite_on_every_supported_python(self, jobs: dict[str, Any]) -> None:
        assert jobs["suite"]["strategy"]["matrix"]["python"] == PYTHONS

    def test_its_commands_exist(self, jobs: dict[str, Any]) -> None:
        steps = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        words = {word for step in steps for word in re.findall(r"(?<![\w./$])[.\w]+/[\w./-]+", step)}
        programs = {word for word in words if not word.endswith(".py")}
        assert programs == {"scripts/test", "scripts/serve", "scripts/healthcheck", ".ci/run", ".venv/bin/python"}
        for program in programs:
            assert_exists(program)
        for path in words - programs:
            assert (CHECKOUT / path).is_file(), path


class TestHooks:
    PATH = ".pre-commit-config.yaml"

    def test_they_are_local_and_their_commands_exist(self) -> None:
        """A hook of another repository would be fetched, and in a version of its own."""
        repositories = load(self.PATH)["repos"]
        assert [each["repo"] for each in repositories] == ["local"]
        hooks = repositories[0]["hooks"]
        assert {hook["id"] for hook in hooks} >= {"ruff", "ruff-format", "mypy"}
        for hook in hooks:
            assert_exists(hook["entry"])
            assert hook["language"] == "system"


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
