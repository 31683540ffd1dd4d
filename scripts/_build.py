"""Makes .venv current: the environment itself, what pyproject.toml requires, and the package with its compiled hot
path.

    python -I scripts/_build.py [EXTRA]

What was done is noted in .venv/leveret.json under hashes of all it was made from (sources, setup.py, pyproject.toml,
Python, compiler, settings), so that a second run has nothing to do. The package is built in .venv/build from a copy of
the sources: the C files, mypy's cache and the object files stay there for the next build, and nothing compiled ever
lies beside the sources.
Standard library only; it runs before anything is installed.
"""

from __future__ import annotations

import contextlib
import fcntl
import filecmp
import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
NOTES = VENV / "leveret.json"
STAGE = VENV / "build" / "source"
# What the build leaves in the copy of the sources.
KEPT = ("build", ".mypy_cache", "leveret.egg-info")
PROGRESS_S = 5.0
BESIDE_THE_PACKAGE = ("pyproject.toml", "setup.py", "LICENSE", "README.md")


def say(text: str) -> None:
    """One line about what is being done. On standard error: the standard output is the node's log."""
    print(f"leveret: {text}", file=sys.stderr, flush=True)


def stop(text: str) -> NoReturn:
    """Ends the script with a message."""
    say(text)
    sys.exit(1)


def load(name: str, path: Path) -> Any:
    """A file of the checkout as a module, without its folder on the path."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def digest(*parts: object) -> str:
    """A short hash of the parts."""
    return hashlib.sha256(json.dumps([str(part) for part in parts]).encode()).hexdigest()[:16]


def read_notes() -> dict[str, str]:
    """What an earlier run has noted; nothing if there is no environment or its notes are unreadable."""
    try:
        notes: dict[str, str] = json.loads(NOTES.read_text())
    except (OSError, ValueError):
        return {}
    return notes


def write_notes(notes: dict[str, str]) -> None:
    """Replaces the notes, whole or not at all."""
    fresh = NOTES.with_suffix(".new")
    fresh.write_text(json.dumps(notes, indent=1))
    fresh.replace(NOTES)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Keeps a second run waiting: several nodes may be started at the same moment."""
    with open(__file__, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def written_at(path: Path) -> float:
    """When it was written (seconds since 1970); 0 if the compiler has removed it just now, to write it again."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def progress(folder: Path, since: float) -> str:
    """How far the compilation in `folder` is that began at `since` (seconds since 1970)."""
    files = [path for path in folder.rglob("*") if path.suffix in (".c", ".o")]
    made = [path for path in files if written_at(path) >= since]
    objects = sum(path.suffix == ".o" for path in made)
    if objects:
        return f"{objects} of {sum(path.suffix == '.c' for path in files)} C files compiled"
    return "the C files are written" if made else "mypy checks the modules"


def run(command: list[str], watched: Path | None) -> int:
    """Runs a command, and says now and then how far the compilation in this folder is; its exit status."""
    since = time.time()
    process = subprocess.Popen(command)
    said = ""
    while True:
        try:
            return process.wait(PROGRESS_S)
        except subprocess.TimeoutExpired:
            now = progress(watched, since) if watched is not None else ""
            if now != said:
                said = now
                say(f"{now}, {time.time() - since:.0f} s")


def pip(*arguments: object, watched: Path | None = None) -> None:
    """Runs the environment's pip; its failure ends the script with its output above."""
    command = [str(word) for word in (PYTHON, "-I", "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)]
    if run(command, watched):
        # mypy's cache can keep an error alive that the next edit has mended (a module that was missing).
        shutil.rmtree(STAGE / ".mypy_cache", ignore_errors=True)
        stop(f"failed: {' '.join(command)}\n(LEVERET_PURE=1 runs without compiled code)")


def make_environment() -> None:
    """A fresh .venv from the Python that runs this."""
    say(f"making {VENV} with Python {sys.version.partition(' ')[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    # sys.executable may be a launcher that picks a Python by the folder it is called in; the environment must not.
    base = Path(sys.base_exec_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    python = base if base.exists() else Path(sys.executable)
    if subprocess.run([python, "-I", "-m", "venv", VENV], check=False).returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        stop("python -m venv failed; on Debian and Ubuntu the package python3-venv provides it")


def stage(files: list[Path]) -> None:
    """Copies the sources for the build. What is unchanged keeps its file, so that the caches of the last build hold."""
    STAGE.mkdir(parents=True, exist_ok=True)
    wanted = {file.relative_to(ROOT) for file in files}
    for found in [path for path in STAGE.rglob("*") if path.is_file() and path.relative_to(STAGE).parts[0] not in KEPT]:
        if found.relative_to(STAGE) not in wanted:
            found.unlink()
    for name in wanted:
        source, target = ROOT / name, STAGE / name
        if not target.exists() or not filecmp.cmp(source, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    # setuptools would install again what a removed source has left here.
    for left in [*STAGE.glob("build/lib*"), *STAGE.glob("build/bdist*"), *STAGE.glob("*.egg-info")]:
        shutil.rmtree(left)


def main(extra: str) -> None:
    """Brings everything up to date, with the packages of `extra` too ("" for none)."""
    setup = load("leveret_setup", ROOT / "setup.py")
    build = load("leveret_build", ROOT / "broker" / "build.py")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pure = setup.why_no_compiler()
    build_requirements = [
        name for name in project["build-system"]["requires"] if not pure or name.startswith("setuptools")
    ]
    requirements = [*build_requirements, *project["project"]["dependencies"]]
    requirements += project["project"]["optional-dependencies"][extra] if extra else []
    compiler = setup.compiler_version()
    required = digest(sys.version, *requirements)
    toolchain = digest(
        sys.version,
        compiler,
        pure,
        setup.optimisation(),
        *((ROOT / name).read_text() for name in ("setup.py", "pyproject.toml")),
    )
    built = digest(toolchain, build.sources_hash(ROOT / "broker"))

    def current(notes: dict[str, str]) -> bool:
        # `python` is noted first: an environment that was never finished, or was made by another Python, is made again.
        return (notes.get("python"), notes.get(f"requirements {extra}"), notes.get("build")) == (
            sys.version,
            required,
            built,
        )

    if PYTHON.exists() and current(read_notes()):
        return
    with alone():
        notes = read_notes()
        if notes.get("python") != sys.version or not PYTHON.exists():
            make_environment()
            notes = {"python": sys.version}
            write_notes(notes)
        if notes.get(f"requirements {extra}") != required:
            say(f"installing {len(requirements)} requirements{f' with the extra {extra!r}' if extra else ''}")
            pip("install", *requirements)
            notes[f"requirements {extra}"] = required
            write_notes(notes)
        if notes.get("build") != built:
            started = time.monotonic()
            if notes.get("toolchain") != toolchain:
                shutil.rmtree(VENV / "build", ignore_errors=True)
            # Noted before and after: a build that is cut off must not pass for the one before it.
            notes = {key: value for key, value in notes.items() if key != "build"} | {"toolchain": toolchain}
            write_notes(notes)
            if pure:
                say(f"installing without compiled code: {pure}")
            else:
                first = "" if (STAGE / "build").exists() else ", once; it takes a minute or two"
                say(
                    f"compiling {len(setup.compiled_modules())} modules with -O{setup.optimisation()}, "
                    f"{compiler}{first}"
                )
            stage(
                [
                    *build.source_files(ROOT / "broker"),
                    *(ROOT / name for name in BESIDE_THE_PACKAGE if (ROOT / name).exists()),
                ]
            )
            target = ("--no-deps", "--no-build-isolation", "--no-index", "--force-reinstall", STAGE)
            pip("install", *target, watched=None if pure else STAGE / "build")
            notes["build"] = built
            write_notes(notes)
            say(f"installed in {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
