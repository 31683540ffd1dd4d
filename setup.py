"""The build: which modules mypyc compiles, and how. Everything else about the package stands in pyproject.toml.

`pip install .` makes a compiled package where mypyc and a C compiler are at hand and a pure one otherwise; it says
which, and why. `LEVERET_PURE=1` asks for the pure one, `LEVERET_OPT` (0-3, default 3) sets the optimisation level of
the C compiler. The scripts load this file as a module for its lists; setuptools is imported only when a build runs.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parent

# The compiled hot path, relative to broker/: a name with .py is one module, any other a folder with all its modules.
# What does not exist yet is passed over. `__init__.py` files stay interpreted: they hold nothing.
COMPILED = (
    "errors.py",
    "clock.py",
    "faults.py",
    "stopwatch.py",
    "time_slice.py",
    "counters.py",
    "stats.py",
    "turn.py",
    "discard.py",
    "flags.py",
    "large_lists.py",
    "buffer.py",
    "wire",
    "message.py",
    "promises.py",
    "destination.py",
    "store/alarm.py",
    "store/batch.py",
    "store/batch_writer.py",
    "store/commit_group.py",
    "store/group_state.py",
    "store/index.py",
    "store/direct_writes.py",
    "store/lingering.py",
    "store/live_record_filter.py",
    "store/log.py",
    "store/log_extents.py",
    "store/log_recovery.py",
    "store/log_writer.py",
    "store/logs.py",
    "store/pages.py",
    "store/pending_settlements.py",
    "store/log_note.py",
    "store/segment_builder.py",
    "store/promises.py",
    "store/segment_extent.py",
    "store/segments.py",
    "store/ranges.py",
    "store/run_map.py",
    "store/read_request.py",
    "store/records.py",
    "store/runner.py",
    "store/varint.py",
    "store/wal.py",
    "store/wal_writer.py",
    "raft",
    "cluster",
    "queues",
    "routing",
    "vhost",
    "alarms.py",
    "auth/access.py",
    "protocol",
    "perf/histogram.py",
    "perf/load.py",
)
GROUP = "leveret"


def compiled_modules(root: Path = ROOT) -> list[str]:
    """The paths of the modules to compile, relative to `root`, sorted."""
    found: set[Path] = set()
    for entry in COMPILED:
        path = root / "broker" / entry
        found.update(path.rglob("*.py") if path.is_dir() else [path] if path.is_file() else [])
    return sorted(
        path.relative_to(root).as_posix() for path in found if path.name not in ("__init__.py", "__main__.py")
    )


def compiler() -> list[str]:
    """The command of the C compiler: `CC`, or what this Python was built with; "cc" where that one is not installed."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    return command if shutil.which(command[0]) else ["cc"]


def compiler_version() -> str:
    """The compiler's own line about itself; "" when there is none."""
    if shutil.which(compiler()[0]) is None:
        return ""
    answer = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=False)
    return (answer.stdout or answer.stderr).partition("\n")[0].strip()


def optimisation() -> str:
    """The level of `LEVERET_OPT`.

    Raises: SystemExit if it is not one of 0, 1, 2, 3.
    """
    level = os.environ.get("LEVERET_OPT") or "3"
    if level not in ("0", "1", "2", "3"):
        raise SystemExit(f"LEVERET_OPT must be 0, 1, 2 or 3, not {level!r}")
    return level


def why_no_compiler() -> str:
    """Why C cannot be compiled here, or was not asked for; "" when it can."""
    if os.environ.get("LEVERET_PURE", "") not in ("", "0"):
        return "LEVERET_PURE is set"
    if sys.implementation.name != "cpython":
        return f"mypyc compiles for CPython, this is {sys.implementation.name}"
    if sys.platform == "win32":
        return ""  # MSVC is found by setuptools, not on the PATH
    if not compiler_version():
        return f"no C compiler: {compiler()[0]!r} not found"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return f"no Python.h in {sysconfig.get_path('include')}: the headers of this Python are not installed"
    return ""


def why_pure() -> str:
    """Why the package is built without compiled code; "" when it is compiled."""
    reason = why_no_compiler()
    if not reason and importlib.util.find_spec("mypyc") is None:
        reason = "mypyc is not installed"
    return reason


def c_folder() -> Path:
    """Where the generated C goes."""
    return Path("build", "c")


def load_build_module() -> ModuleType:
    """broker/build.py as a module of its own: the package around it may need what is not installed yet."""
    spec = importlib.util.spec_from_file_location("leveret_build", ROOT / "broker" / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def extensions() -> list[Any]:
    """The compiled modules as setuptools extensions: one shared library, one C file per module."""
    from mypyc.build import mypycify

    # The strict rules of pyproject.toml are the test suite's business: an unused waiver must not keep anyone from
    # installing.
    arguments = ["--config-file=", *compiled_modules()]
    made = mypycify(
        arguments,
        opt_level=optimisation(),
        debug_level="0",
        strip_asserts=False,
        multi_file=True,
        separate=False,
        group_name=GROUP,
        target_dir=str(c_folder()),
    )
    for extension in made:
        # A newer compiler knows newer warnings; they must not end an installation.
        extension.extra_compile_args = [flag for flag in extension.extra_compile_args if flag != "-Werror"]
    return made


def main() -> None:
    """Runs setuptools."""
    from setuptools import setup
    from setuptools.command.build_ext import build_ext
    from setuptools.command.build_py import build_py

    reason = why_pure()
    modules = compiled_modules()
    # A build frontend asks for requirements and metadata first, each in a run of its own; mypyc's work is done once,
    # for the wheel.
    only_metadata = not {"egg_info", "dist_info", "sdist"}.isdisjoint(sys.argv[1:])
    if only_metadata:
        pass
    elif reason:
        print(f"leveret: pure build, nothing compiled: {reason}", file=sys.stderr)
    else:
        print(
            f"leveret: compiling {len(modules)} modules with -O{optimisation()}, {compiler_version()}", file=sys.stderr
        )
        # Where the compiler this Python was built with is absent, setuptools must use the one that was found.
        os.environ.setdefault("CC", shlex.join(compiler()))

    class WriteBuildInfo(build_py):
        """Adds `_build_info` to the built package, never to the sources."""

        def run(self) -> None:
            super().run()
            text = (
                '"""What this package was built from; written by setup.py."""\n\n'
                f"SOURCES = {load_build_module().sources_hash(ROOT / 'broker')!r}\n"
                f"REASON = {reason!r}\n"
            )
            target = Path(self.build_lib) / "broker" / "_build_info.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")

    class ParallelBuild(build_ext):
        """Compiles the C files of one extension side by side, and leaves out those whose object is newer than all it
        was made from.

        setuptools runs extensions in parallel, but the hot path is one extension of many files.
        """

        def build_extension(self, ext: Any) -> None:
            compile_serially = self.compiler.compile
            # mypyc leaves a file it would write unchanged alone, so the times tell; any header counts for every file.
            headers = max((path.stat().st_mtime for path in c_folder().rglob("*.h")), default=0.0)

            def compile_one(source: str, options: dict[str, Any]) -> list[str]:
                objects: list[str] = self.compiler.object_filenames(
                    [source], output_dir=options.get("output_dir") or ""
                )
                if all(
                    os.path.exists(name) and os.stat(name).st_mtime > max(headers, os.stat(source).st_mtime)
                    for name in objects
                ):
                    return objects
                compiled: list[str] = compile_serially([source], **options)
                return compiled

            def compile_side_by_side(sources: list[str], **options: Any) -> list[str]:
                # Longest first: the last file to finish should be a short one.
                by_size = sorted(sources, key=os.path.getsize, reverse=True)
                with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
                    done = dict(
                        zip(by_size, pool.map(lambda source: compile_one(source, options), by_size), strict=True)
                    )
                return [name for source in sources for name in done[source]]

            self.compiler.compile = compile_side_by_side
            try:
                super().build_extension(ext)
            finally:
                self.compiler.compile = compile_serially

    setup(
        ext_modules=[] if reason or only_metadata or not modules else extensions(),
        cmdclass={"build_py": WriteBuildInfo, "build_ext": ParallelBuild},
    )


if __name__ == "__main__":
    main()
