"""How a node logs: structlog, one line per event on standard output, for people (`console`) or for machines (`json`).

An event is a short fixed sentence; what varies goes into its fields:
`log.info("Queue declared", vhost="/", queue="orders")`. Loggers are bound once per connection and queue, and nothing
logs per message. Fields that look like secrets are masked here, so that no caller has to remember. What clients choose
(names, texts) may hold any character: control characters are escaped, so no name can forge a line.

`configure` belongs to the command: it sets up the whole process, with asyncio's and the HTTP server's own logs in the
same form. A node that is embedded in another program leaves that program's logging as it is.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, Protocol, TextIO

if TYPE_CHECKING:
    from structlog.typing import Processor

MASK: Final = "***"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}
# Not "key" or "auth" alone: routing keys and authentication mechanisms are what one wants to read.
_SECRET_WORDS: Final = (
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "cookie",
    "authorization",
    "private_key",
)
_SECRET_NAMES: Final = frozenset({"pass", "default_pass", "pwd", "sasl_response"})
_URL_PASSWORD: Final = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@]*:)[^\s/@]+@")
# C0 and C1 controls, DEL, and the two line separators of Unicode.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NEEDS_QUOTES: Final = re.compile(r"[\s\"'=]")
_MASK_DEPTH: Final = 4


class Logger(Protocol):
    """What `get_logger` returns, as far as the rest of the project uses it."""

    def bind(self, **fields: object) -> Logger:
        """A logger that adds `fields` to each of its events."""

    def debug(self, event: str, **fields: object) -> object:
        """Logs what helps to follow the program."""

    def info(self, event: str, **fields: object) -> object:
        """Logs what an operator wants to know."""

    def warning(self, event: str, **fields: object) -> object:
        """Logs what an operator should look at."""

    def error(self, event: str, **fields: object) -> object:
        """Logs what went wrong."""

    def exception(self, event: str, **fields: object) -> object:
        """Logs what went wrong with the traceback of the exception at hand."""

    def critical(self, event: str, **fields: object) -> object:
        """Logs what ends the node."""


class Lines:
    """Where the lines go. Each is one write, so that those of several threads do not mix."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Writes one line and flushes it.

        A stream that is gone (closed pipe, full disk) loses the line and nothing else: a broker does not stop for its
        log, and there is no other place to say so.
        """
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    log = debug = info = warning = warn = error = critical = exception = fatal = msg


def is_secret(name: str) -> bool:
    """Whether a field of this name is masked."""
    lowered = name.lower().replace("-", "_")
    return lowered in _SECRET_NAMES or any(word in lowered for word in _SECRET_WORDS)


def masked(value: Any, depth: int = _MASK_DEPTH) -> Any:
    """The value with the secrets inside it masked: fields of mappings, and passwords in URLs."""
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1{MASK}@", value) if "://" in value else value
    if depth == 0:
        return value
    if isinstance(value, Mapping):
        return {key: MASK if is_secret(str(key)) else masked(inner, depth - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, depth - 1) for inner in value]
    return value


def mask_secrets(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: masks fields that are named like secrets, and passwords in URLs anywhere."""
    for name, value in event.items():
        event[name] = MASK if is_secret(name) else masked(value)
    return event


def name_source(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor for the standard library's records: which of its loggers spoke."""
    event["source"] = event["_record"].name
    return event


def one_line(value: str) -> str:
    r"""The text with its control characters escaped as \xNN or \uNNNN."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), value)


def render_value(value: object) -> str:
    """A field's value in a console line: plain where that is unambiguous, else as a Python literal."""
    shown = value if isinstance(value, str) else repr(value)
    plain = one_line(shown)
    if isinstance(value, str) and (not plain or plain != shown or _NEEDS_QUOTES.search(plain)):
        return one_line(repr(value))
    return plain


def render_console(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """The last structlog processor of the console format: `time level event field=value ...`, a traceback indented
    below."""
    time = event.pop("timestamp", "")
    level = str(event.pop("level", method))
    exception = event.pop("exception", "")
    fields = "".join(f" {one_line(name)}={render_value(value)}" for name, value in event.items() if name != "event")
    line = f"{time} {level:<8} {one_line(str(event.get('event', '')))}{fields}"
    # A message inside a traceback may hold a client's text: each of its lines is escaped and indented, none looks like
    # an event.
    return line + "".join(f"\n    {one_line(part)}" for part in str(exception).split("\n") if exception)


def configure(level: str = "info", format: str = "console", stream: TextIO | None = None) -> None:
    """Sets up the logging of this process: structlog and the standard library's, to `stream` (standard output)."""
    structlog = _import_structlog()
    processors = structlog.processors
    output = stream if stream is not None else sys.stdout
    if stream is None and isinstance(output, TextIOWrapper):
        # A locale that cannot write a character must not cost the line.
        output.reconfigure(errors="backslashreplace")
    number = LEVELS[level]
    prepare: list[Processor] = [
        processors.add_log_level,
        processors.TimeStamper(fmt="iso", utc=True),
        processors.format_exc_info,
        mask_secrets,
    ]
    render: Processor = render_console
    if format == "json":
        # default=str: a field that JSON has no form for is still worth its text.
        render = processors.JSONRenderer(default=str)
    structlog.configure(
        processors=[*prepare, render] if level != "none" else [drop],
        wrapper_class=structlog.make_filtering_bound_logger(min(number, logging.CRITICAL)),
        logger_factory=lambda *_: Lines(output),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[name_source, *prepare],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up from warnings on, unless someone asked for everything.
    root.setLevel(number if level == "debug" else max(number, logging.WARNING))


def get_logger(name: str, **fields: object) -> Logger:
    """A logger whose events carry `source=name` and `fields`. It may be made before `configure`: its first event or
    `bind` decides."""
    logger: Logger = _import_structlog().get_logger(source=name, **fields)
    return logger


def drop(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
    """The structlog processor of the level `none`.

    Raises: structlog's DropEvent, always: how a processor says that nothing is to be written.
    """
    raise _import_structlog().DropEvent


def _import_structlog() -> Any:
    """structlog, without rich where nothing has imported either yet.

    structlog imports rich when it is installed, for tracebacks we do not draw: 40 ms and 5 MB more at every start
    (measured).
    """
    if "structlog" not in sys.modules and "rich" not in sys.modules:
        # None makes `import rich` fail as if it were absent.
        sys.modules["rich"] = None  # type: ignore[assignment]
        try:
            import structlog
        finally:
            del sys.modules["rich"]
    else:
        import structlog
    return structlog
