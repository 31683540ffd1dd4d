"""A stale build cannot pass for the sources beside it: what is loaded says what it was made from."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from broker import build

CHECKOUT = Path(__file__).resolve().parents[2]
WANTED = os.environ.get("LEVERET_BUILD", "")


def module_of_the_checkout(name: str, path: str) -> ModuleType:
    """A file that is part of no package."""
    spec = importlib.util.spec_from_file_location(name, CHECKOUT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def setup_module_of_the_checkout() -> ModuleType:
    return module_of_the_checkout("leveret_setup", "setup.py")


def test_the_loaded_build_is_the_one_of_these_sources() -> None:
    """README, "Two commands": a stale build cannot shadow an edit; "interpreted" means the checkout on the path."""
    found = build.loaded()
    if WANTED in ("compiled", "pure"):
        assert found.sources == build.sources_hash(CHECKOUT / "broker")
    else:
        assert build.PACKAGE == CHECKOUT / "broker"
        assert found == build.Build(False, "", f"from {CHECKOUT / 'broker'}")


def test_the_hot_path_is_compiled_as_a_whole_or_not_at_all(setup_module_of_the_checkout: ModuleType) -> None:
    """ARCHITECTURE, "Compiled hot path": one interpreted module on the path of a message would cost unseen."""
    paths = setup_module_of_the_checkout.compiled_modules()
    assert "broker/wire/frames.py" in paths
    for path in paths:
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        compiled = str(module.__file__).endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
        assert compiled == (WANTED == "compiled"), module.__file__


def test_nothing_compiled_and_nothing_generated_lies_beside_the_sources() -> None:
    """An extension module beside its source would be loaded instead of it, whatever the source says by then."""
    beside = [
        path
        for path in (CHECKOUT / "broker").rglob("*")
        if path.suffix in (".so", ".pyd", ".c") or path.name == "_build_info.py"
    ]
    assert beside == []


def test_modules_of_the_list_are_compiled_but_package_files_are_not(setup_module_of_the_checkout: ModuleType) -> None:
    paths = setup_module_of_the_checkout.compiled_modules()
    assert "broker/errors.py" in paths
    assert not [path for path in paths if path.endswith(("__init__.py", "__main__.py"))]
    assert "broker/config.py" not in paths
    assert paths == sorted(set(paths))


@pytest.mark.parametrize("value", ["1", "yes"])
def test_leveret_pure_asks_for_a_pure_build(
    setup_module_of_the_checkout: ModuleType, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("LEVERET_PURE", value)
    assert setup_module_of_the_checkout.why_pure() == "LEVERET_PURE is set"


def test_without_a_compiler_the_build_is_pure_and_says_why(
    setup_module_of_the_checkout: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LEVERET_PURE", raising=False)
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert setup_module_of_the_checkout.why_pure() == "no C compiler: 'cc' not found"


def test_an_optimisation_level_that_no_compiler_has_is_refused(
    setup_module_of_the_checkout: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEVERET_OPT", "fast")
    with pytest.raises(SystemExit, match="LEVERET_OPT must be 0, 1, 2 or 3"):
        setup_module_of_the_checkout.optimisation()


class TestSourcesHash:
    """`sources_hash` is equal exactly when the sources are."""

    @pytest.fixture
    def package(self, tmp_path: Path) -> Path:
        shutil.copytree(build.PACKAGE, tmp_path / "broker")
        return tmp_path / "broker"

    def test_a_copy_has_the_same_hash(self, package: Path) -> None:
        assert build.sources_hash(package) == build.sources_hash()

    def test_an_edit_a_new_file_and_a_lost_file_change_it(self, package: Path) -> None:
        hashes = [build.sources_hash(package)]
        (package / "errors.py").write_text("# edited\n")
        hashes.append(build.sources_hash(package))
        (package / "new.py").write_text("")
        hashes.append(build.sources_hash(package))
        (package / "config.py").unlink()
        hashes.append(build.sources_hash(package))
        assert len(set(hashes)) == 4

    def test_a_file_that_moves_changes_it(self, package: Path) -> None:
        before = build.sources_hash(package)
        (package / "errors.py").rename(package / "faults.py")
        assert build.sources_hash(package) != before

    def test_caches_compiled_and_generated_files_do_not_count(self, package: Path) -> None:
        before = build.sources_hash(package)
        (package / "__pycache__").mkdir(exist_ok=True)
        (package / "__pycache__" / "errors.cpython-311.pyc").write_bytes(b"x")
        (package / "errors.cpython-311-x86_64-linux-gnu.so").write_bytes(b"x")
        (package / "_build_info.py").write_text("SOURCES = ''\n")
        (package / ".errors.py.swp").write_bytes(b"x")
        assert build.sources_hash(package) == before


def test_the_start_line_names_the_build() -> None:
    assert str(build.Build(True, "abc", "")) == "compiled"
    assert str(build.Build(False, "abc", "no C compiler")) == "interpreted (no C compiler)"


@pytest.fixture(name="script")
def build_script_of_the_checkout() -> ModuleType:
    return module_of_the_checkout("build_script", "scripts/_build.py")


def test_a_first_build_says_how_far_it_is(script: ModuleType, tmp_path: Path) -> None:
    """It takes a minute or two, in which nothing was said."""
    assert script.progress(tmp_path / "missing", 0) == "mypy checks the modules"
    (tmp_path / "c").mkdir()
    for name in ("a.c", "b.c", "c.c", "a.h"):
        (tmp_path / "c" / name).touch()
    assert script.progress(tmp_path, 0) == "the C files are written"
    (tmp_path / "a.o").touch()
    assert script.progress(tmp_path, 0) == "1 of 3 C files compiled"
    os.utime(tmp_path / "c" / "a.c", (1, 1))
    assert script.progress(tmp_path, 2) == "1 of 3 C files compiled", (
        "what an earlier build has written and is compiled again"
    )
    assert script.progress(tmp_path, time.time() + 60) == "mypy checks the modules", (
        "what an earlier build has left does not count"
    )


def test_a_file_that_the_compiler_replaces_just_now_is_not_counted(script: ModuleType, tmp_path: Path) -> None:
    """It is in the listing, and gone when it is looked at."""
    (tmp_path / "one.c").touch()
    (tmp_path / "one.o").symlink_to(tmp_path / "gone")
    assert script.progress(tmp_path, 1) == "the C files are written"


def test_progress_is_said_while_a_command_runs(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "PROGRESS_S", 0.05)
    program = (
        f"import pathlib, time; pathlib.Path({str(tmp_path)!r}, 'a.c').touch(); time.sleep(0.5); raise SystemExit(3)"
    )
    assert script.run([sys.executable, "-c", program], tmp_path) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("leveret: the C files are written, ")
    assert len(said) <= 2, "the same is not said twice"
    assert script.run([sys.executable, "-c", ""], None) == 0
