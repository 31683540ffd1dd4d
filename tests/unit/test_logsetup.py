"""Log lines: their two forms, levels, masked secrets, and names of clients that cannot forge a line."""

from __future__ import annotations

import datetime
import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from broker import logsetup


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """The logging of the test process as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(level: str = "info", format: str = "console") -> tuple[logsetup.Logger, io.StringIO]:
    stream = io.StringIO()
    logsetup.configure(level, format, stream)
    return logsetup.get_logger("test"), stream


class TestConsole:
    def test_a_line_holds_time_level_event_and_fields(self) -> None:
        log, stream = logged()
        log.info("Queue declared", queue="orders", count=3)
        time, rest = stream.getvalue().split(" ", 1)
        moment = datetime.datetime.fromisoformat(time)
        assert moment.utcoffset() == datetime.timedelta(0)
        assert rest == "info     Queue declared source=test queue=orders count=3\n"

    def test_bound_fields_are_on_every_line(self) -> None:
        log, stream = logged()
        bound = log.bind(vhost="/")
        bound.info("One")
        bound.warning("Two")
        assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
            "info     One source=test vhost=/",
            "warning  Two source=test vhost=/",
        ]

    @pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\x1b[31mred", "a\u2028b", "a\x85b", "tab\tbed"])
    def test_a_name_with_control_characters_cannot_forge_a_line(self, text: str) -> None:
        """CWE-117: what clients choose reaches the log; neither a new line nor a terminal sequence may come of it."""
        log, stream = logged()
        log.info("Event " + text, queue=text, names=[text])
        assert len(stream.getvalue().splitlines()) == 1
        assert "\x1b" not in stream.getvalue()

    @pytest.mark.parametrize(
        ("value", "shown"), [("two words", "'two words'"), ("", "''"), ("a=b", "'a=b'"), ('"', "'\"'"), (None, "None")]
    )
    def test_a_value_that_would_be_ambiguous_is_quoted(self, value: object, shown: str) -> None:
        log, stream = logged()
        log.info("Event", value=value)
        assert stream.getvalue().endswith(f" value={shown}\n")

    def test_a_traceback_is_indented_below_the_event(self) -> None:
        log, stream = logged()
        try:
            raise ValueError("first\n2026-01-01T00:00:00Z info forged")
        except ValueError:
            log.exception("Handler failed")
        head, *below = stream.getvalue().splitlines()
        assert "Handler failed" in head
        assert below[0] == "    Traceback (most recent call last):"
        assert all(line.startswith("    ") for line in below)

    @given(st.text(), st.text())
    def test_any_event_and_value_make_one_line(self, event: str, value: str) -> None:
        line = logsetup.render_console(
            None, "info", {"event": event, "level": "info", "timestamp": "t", "value": value}
        )
        assert len(line.splitlines()) == 1


class TestJson:
    def test_a_line_is_an_object(self) -> None:
        log, stream = logged(format="json")
        log.warning("Disk low", free_bytes=1, path=Path("/d"))
        made = json.loads(stream.getvalue())
        datetime.datetime.fromisoformat(made.pop("timestamp"))
        assert made == {"event": "Disk low", "level": "warning", "source": "test", "free_bytes": 1, "path": "/d"}

    def test_a_traceback_is_a_field(self) -> None:
        log, stream = logged(format="json")
        try:
            raise ValueError("first")
        except ValueError:
            log.exception("Handler failed")
        [line] = stream.getvalue().splitlines()
        assert json.loads(line)["exception"].endswith("ValueError: first")

    def test_line_breaks_stay_inside(self) -> None:
        log, stream = logged(format="json")
        log.info("a\nb", queue="c\nd")
        [line] = stream.getvalue().splitlines()
        assert json.loads(line)["queue"] == "c\nd"


class TestLevels:
    @pytest.mark.parametrize(
        ("level", "shown"),
        [
            ("debug", ["d", "i", "w", "e", "c"]),
            ("info", ["i", "w", "e", "c"]),
            ("warning", ["w", "e", "c"]),
            ("error", ["e", "c"]),
            ("critical", ["c"]),
            ("none", []),
        ],
    )
    def test_what_is_below_the_level_is_not_written(self, level: str, shown: list[str]) -> None:
        """RabbitMQ docs, Logging: "Log Levels"."""
        log, stream = logged(level, "json")
        log.debug("d")
        log.info("i")
        log.warning("w")
        log.error("e")
        log.critical("c")
        assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == shown

    def test_a_logger_made_before_the_set_up_obeys_it(self) -> None:
        early = logsetup.get_logger("early")
        _, stream = logged("error", "json")
        early.info("no")
        early.error("yes")
        assert json.loads(stream.getvalue())["event"] == "yes"


class TestStandardLibrary:
    def test_its_records_come_in_the_same_form(self) -> None:
        """asyncio reports what a callback raised there; it must not be lost or look different."""
        _, stream = logged(format="json")
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=ValueError("first"))
        made = json.loads(stream.getvalue())
        assert (made["event"], made["level"], made["source"]) == (
            "Task exception was never retrieved",
            "error",
            "asyncio",
        )
        assert made["exception"].endswith("ValueError: first")

    def test_libraries_are_quiet_below_warning(self) -> None:
        _, stream = logged("info")
        logging.getLogger("uvicorn").info("no")
        assert stream.getvalue() == ""

    def test_none_silences_them_too(self) -> None:
        _, stream = logged("none")
        logging.getLogger("asyncio").critical("no")
        assert stream.getvalue() == ""


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        [
            "password",
            "default_pass",
            "user_password_hash",
            "Authorization",
            "access_token",
            "client_secret",
            "erlang_cookie",
            "pass",
        ],
    )
    @pytest.mark.parametrize("format", ["console", "json"])
    def test_a_field_named_like_one_is_masked(self, name: str, format: str) -> None:
        log, stream = logged(format=format)
        log.info("Event", **{name: "hunter2"})
        assert "hunter2" not in stream.getvalue()
        assert "***" in stream.getvalue()

    @pytest.mark.parametrize("name", ["routing_key", "mechanism", "passive", "bypass", "queue"])
    def test_other_fields_are_not(self, name: str) -> None:
        log, stream = logged()
        log.info("Event", **{name: "plain"})
        assert f"{name}=plain" in stream.getvalue()

    def test_inside_of_fields_too(self) -> None:
        log, stream = logged(format="json")
        log.info("Event", body={"user": "a", "list": [{"password": "hunter2"}]}, properties=("x", {"token": "hunter2"}))
        made = json.loads(stream.getvalue())
        assert made["body"] == {"user": "a", "list": [{"password": "***"}]}
        assert made["properties"] == ["x", {"token": "***"}]

    def test_passwords_in_addresses(self) -> None:
        """RabbitMQ docs, URI Specification: amqp://user:password@host."""
        log, stream = logged()
        log.info("Event amqp://a:hunter2@h", uri="amqp://user:hunter2@host:5672/%2f", plain="amqp://host/a:b@c")
        assert "hunter2" not in stream.getvalue()
        assert "uri=amqp://user:***@host:5672/%2f" in stream.getvalue()
        assert "plain=amqp://host/a:b@c" in stream.getvalue()

    def test_in_records_of_the_standard_library(self) -> None:
        _, stream = logged()
        logging.getLogger("lib").error("connecting to amqp://user:hunter2@host")
        assert "hunter2" not in stream.getvalue()


class TestLines:
    def test_a_stream_that_is_gone_loses_the_line_and_nothing_else(self) -> None:
        class Gone(io.StringIO):
            def write(self, text: str, /) -> int:
                raise BrokenPipeError

        logsetup.configure(stream=Gone())
        log = logsetup.get_logger("test")
        log.info("Event")
        closed = io.StringIO()
        closed.close()
        logsetup.Lines(closed).msg("Event")
        assert closed.closed

    def test_each_line_is_one_write(self) -> None:
        """Two writes, one for the text and one for the line break, would let the lines of two threads mix."""
        writes: list[str] = []

        class Recorded(io.StringIO):
            def write(self, text: str, /) -> int:
                writes.append(text)
                return len(text)

        logsetup.configure(stream=Recorded())
        logsetup.get_logger("test").info("Event")
        assert len(writes) == 1
        assert writes[0].endswith("\n")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(logsetup.__file__).resolve().parents[1])
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )


def test_the_set_up_does_not_import_rich() -> None:
    """Start budget: structlog imports rich where it is installed, which doubles its cost; and rich can still be
    imported afterwards."""
    code = (
        "from broker import logsetup; logsetup.configure(); print('rich' in sys.modules, 'rich.console' in sys.modules)"
    )
    assert run_python(code).stdout.split() == ["False", "False"]


def test_a_locale_that_cannot_write_a_character_does_not_cost_the_line() -> None:
    code = "from broker import logsetup; logsetup.configure(); logsetup.get_logger('t').info('Queue', name=chr(0xe9))"
    output = run_python(code).stdout
    assert "name=" in output
    assert "\\xe9" in output


def test_importing_it_leaves_the_logging_of_the_program_alone() -> None:
    code = "import logging; from broker import logsetup; logsetup.get_logger('t'); print(logging.getLogger().handlers)"
    assert run_python(code).stdout.strip() == "[]"
