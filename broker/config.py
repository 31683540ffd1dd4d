"""Every option of a node once: name, type, unit, default, environment variable, keys of the configuration file, help.

An option is a field of `Config`; what is known about it beyond its type and default is its `Option`. Command line,
environment, file, `--help` and conf/leveret.conf are all made from these. Precedence: command line > environment >
file > default.

The file speaks RabbitMQ's `rabbitmq.conf` dialect (RabbitMQ docs, Configuration; the cuttlefish grammar):

    # a comment
    key.with.dots = value        # a comment
    key = 'a value # with a hash'
    key = $(ENVIRONMENT_VARIABLE)

The last line for an option wins. Keys that are not known become `Config.warnings` and never keep a node from starting;
a bad value does, with the place where it stands. Values are checked here, once, and handed in everywhere else: there is
no global configuration.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

ENVIRONMENT_PREFIX: Final = "LEVERET_"
# Read by the scripts and by setup.py, not options of a node: no warning about them.
ENVIRONMENT_OF_THE_BUILD: Final = frozenset({"LEVERET_BUILD", "LEVERET_OPT", "LEVERET_PURE", "LEVERET_PYTHON"})

IDENTITIES: Final = ("rabbitmq", "leveret")
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical", "none")
LOG_FORMATS: Final = ("console", "json")
MESSAGE_SIZE_MAX: Final = 512 << 20
FRAME_SIZE_MIN: Final = 4096
FRAME_SIZE_MAX: Final = 16 << 20
_SIZE_MAX: Final = 1 << 60

_UNITS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SIZE: Final = re.compile(r"(\d+)\s*([kmgt]?)(b|ib|i)?", re.IGNORECASE | re.ASCII)
_SHARE: Final = re.compile(r"\d{1,3}(\.\d{1,9})?", re.ASCII)
_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(\.[^\s.=#]+)*")
_VARIABLE: Final = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.:-]+")


class ConfigError(Exception):
    """A configuration that a node cannot start with; the text names the place, the key, the value and what is wrong
    with it."""


class Place(NamedTuple):
    """Where a value was read: a line of a file, an environment variable, an option of the command line."""

    source: str
    line: int
    key: str

    def error(self, value: str, problem: str, secret: bool = False) -> ConfigError:
        """The error about `value`, which stands here."""
        where = f"{self.source}:{self.line}: {self.key}" if self.line else f"{self.source} {self.key}"
        return ConfigError(f"{where} = {'***' if secret else repr(value)}: {problem}")


class Option(NamedTuple):
    """What is known about an option beyond the name, type and default of its field."""

    help: str
    parse: Callable[[str], Any]
    """From text to a valid value. Raises: ValueError whose text says what would be valid."""
    unit: str = ""
    keys: tuple[str, ...] = ()
    """RabbitMQ's names for it, beside its own."""
    show: Callable[[Any], str] = str
    """From a value to the text that `parse` takes."""
    metavar: str = "TEXT"
    in_file: bool = True
    secret: bool = False
    default_text: str = ""
    """What help and the sample file say where the default depends on the machine or on other options."""


# --- from text to values


def text(value: str) -> str:
    """Any text but the empty one."""
    if not value:
        raise ValueError("must not be empty")
    return value


def any_text(value: str) -> str:
    """Any text."""
    return value


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`."""

    def parse(value: str) -> int:
        # isdigit alone would let other scripts' digits through, and int() takes signs, underscores and spaces.
        if not (value.isascii() and value.isdigit() and len(value) <= 18 and low <= int(value) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(value)

    return parse


def limit(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers from `low` to `high`, or `infinity`, which is kept as 0: no limit."""
    return or_infinity(whole_number(low, high))


def or_infinity(finite: Callable[[str], int]) -> Callable[[str], int]:
    """A parser of what `finite` takes, or `infinity`, which is kept as 0: no limit."""

    def parse(value: str) -> int:
        if value == "infinity":
            return 0
        try:
            return finite(value)
        except ValueError as error:
            raise ValueError(f"{error}, or infinity") from None

    return parse


def show_limit(value: int) -> str:
    """The text of a limit."""
    return str(value) if value else "infinity"


def size(low: int, high: int) -> Callable[[str], int]:
    """A parser of sizes in bytes: a number, or one with a unit. kB and MB count by 1000; k, Ki, KiB, M, Mi, MiB by 1024
    (RabbitMQ)."""

    def parse(value: str) -> int:
        match = _SIZE.fullmatch(value) if len(value) <= 24 else None
        if match is None:
            raise ValueError("must be a size in bytes such as 134217728, 128MiB or 134MB")
        prefix, suffix = match[2].lower(), (match[3] or "").lower()
        base = 1000 if suffix == "b" else 1024
        count = int(match[1]) * int(base ** _UNITS[prefix])
        if not low <= count <= high:
            raise ValueError(f"must be from {low} to {high} bytes")
        return count

    return parse


def share(high: int) -> Callable[[str], float]:
    """A parser of shares, from 0 to `high`: 0.4 is 40 %."""

    def parse(value: str) -> float:
        if _SHARE.fullmatch(value) is None or float(value) > high:
            raise ValueError(f"must be a share from 0 to {high} such as 0.4")
        return float(value)

    return parse


def choice(names: tuple[str, ...], aliases: Mapping[str, str] | None = None) -> Callable[[str], str]:
    """A parser of one of `names`, or of another name for one of them."""

    def parse(value: str) -> str:
        value = (aliases or {}).get(value, value)
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return value

    return parse


def node_name(value: str) -> str:
    """A node name, `name@host`."""
    if len(value) > 255 or _NODE_NAME.fullmatch(value) is None:
        raise ValueError("must look like name@host: letters, digits, and the characters . _ -")
    return value


def user_names(value: str) -> frozenset[str]:
    """User names with commas between them, or `none`."""
    if value == "none":
        return frozenset()
    names = [name.strip() for name in value.split(",")]
    if not all(names):
        raise ValueError("must be user names with commas between them, or none")
    return frozenset(names)


def show_user_names(value: frozenset[str]) -> str:
    """The text of a set of user names."""
    return ",".join(sorted(value)) or "none"


def path(value: str) -> Path:
    """A path, relative to where the node is started."""
    return Path(text(value))


# --- the options


def option(default: T, described: Option) -> T:
    """A field of `Config`. It says that it returns the default's type because that is what the field holds."""
    made: T = field(default=default, metadata={"option": described}, repr=not described.secret)
    return made


PORT: Final = whole_number(0, 65535)


@dataclass(frozen=True, slots=True)
class Config:
    """The options of one node, all valid. Made by `load`, or directly (in tests, when embedded) with the same
    defaults."""

    host: str = option(
        "localhost",
        Option("address to listen on; 0.0.0.0 or :: for all, localhost for 127.0.0.1 and ::1", text, metavar="ADDRESS"),
    )
    port: int = option(5672, Option("port for AMQP clients; 0 picks a free one", PORT, metavar="PORT"))
    data_dir: Path = option(Path("data"), Option("folder of everything that outlives the node", path, metavar="FOLDER"))
    node_name: str = option(
        "",
        Option(
            "name of this node, unique in a cluster",
            node_name,
            keys=("nodename",),
            metavar="NAME@HOST",
            default_text="leveret@<host name>",
        ),
    )
    config: Path | None = option(None, Option("configuration file to read", path, metavar="FILE", in_file=False))
    management_port: int = option(
        15672,
        Option(
            "port of the management interface; 0 picks a free one",
            PORT,
            keys=("management.tcp.port", "management.listener.port"),
            metavar="PORT",
        ),
    )
    prometheus_port: int = option(
        15692, Option("port of the metrics; 0 picks a free one", PORT, keys=("prometheus.tcp.port",), metavar="PORT")
    )
    identity: str = option(
        "rabbitmq",
        Option(
            "product that clients are told; some choose their behaviour by it",
            choice(IDENTITIES),
            metavar="rabbitmq|leveret",
        ),
    )
    heartbeat: int = option(
        60, Option("heartbeat offered to clients; 0 is none", whole_number(0, 65535), unit="s", metavar="N")
    )
    frame_max: int = option(
        131072,
        Option("largest frame, offered to clients", size(FRAME_SIZE_MIN, FRAME_SIZE_MAX), unit="bytes", metavar="SIZE"),
    )
    channel_max: int = option(
        2047,
        Option(
            "most channels of one connection; 0 is no limit",
            whole_number(0, 65535),
            keys=("max_channels_per_connection",),
            metavar="N",
        ),
    )
    max_message_size: int = option(
        134217728, Option("largest message body", size(1, MESSAGE_SIZE_MAX), unit="bytes", metavar="SIZE")
    )
    handshake_timeout: int = option(
        10000, Option("time a client has to open its connection", whole_number(1, 3_600_000), unit="ms", metavar="N")
    )
    send_timeout: int = option(
        30000,
        Option(
            "time after which a client whose socket accepts nothing, while output waits for it, is closed",
            limit(100, 3_600_000),
            unit="ms",
            keys=("tcp_listen_options.send_timeout",),
            show=show_limit,
            metavar="N|infinity",
        ),
    )
    consumer_timeout: int = option(
        1_800_000,
        Option(
            "time after which a message that a consumer of a quorum queue has not acknowledged goes back",
            limit(1, 315_360_000_000),
            unit="ms",
            show=show_limit,
            metavar="N|infinity",
        ),
    )
    loopback_users: frozenset[str] = option(
        frozenset({"guest"}),
        Option(
            "users that may connect from this machine alone; none lifts it",
            user_names,
            show=show_user_names,
            metavar="NAMES",
        ),
    )
    default_user: str = option("guest", Option("user that a new node starts with", text))
    default_pass: str = option("guest", Option("password of that user", any_text, secret=True))
    default_vhost: str = option("/", Option("virtual host that a new node starts with", text))
    consumer_max_per_channel: int = option(
        0, Option("most consumers of one channel", limit(0, 2**31), show=show_limit, metavar="N|infinity")
    )
    max_connections: int = option(
        0,
        Option(
            "most client connections", limit(1, 2**31), keys=("connection_max",), show=show_limit, metavar="N|infinity"
        ),
    )
    channel_max_per_node: int = option(
        0, Option("most channels of all connections", limit(1, 2**31), show=show_limit, metavar="N|infinity")
    )
    default_consumer_prefetch: int = option(
        0, Option("prefetch count of consumers that set none; 0 is no limit", whole_number(0, 65535), metavar="N")
    )
    cluster_name: str = option(
        "", Option("name of the cluster, shown to clients", text, default_text="leveret@<host name>")
    )
    log_level: str = option(
        "info",
        Option(
            "least important level that is logged",
            choice(LOG_LEVELS),
            keys=("log.console.level", "log.level", "log.default.level"),
            metavar="LEVEL",
        ),
    )
    log_format: str = option(
        "console",
        Option(
            "lines for people, or JSON objects for machines",
            choice(LOG_FORMATS, {"plaintext": "console"}),
            keys=("log.console.formatter",),
            metavar="console|json",
        ),
    )
    backlog: int = option(
        4096,
        Option(
            "connections the system queues before they are accepted",
            whole_number(1, 65535),
            keys=("tcp_listen_options.backlog",),
            metavar="N",
        ),
    )
    vm_memory_high_watermark_relative: float | None = option(
        None,
        Option(
            "memory alarm: publishers wait while the node uses more than this share of the memory; goes before the "
            "absolute one",
            share(1),
            keys=("vm_memory_high_watermark.relative",),
            metavar="SHARE",
            default_text="<0.4, unless an absolute one is set>",
        ),
    )
    vm_memory_high_watermark_absolute: int = option(
        0,
        Option(
            "memory alarm: publishers wait while the node uses more than this; infinity leaves it to the relative one",
            or_infinity(size(1, _SIZE_MAX)),
            unit="bytes",
            keys=("vm_memory_high_watermark.absolute",),
            show=show_limit,
            metavar="SIZE|infinity",
        ),
    )
    vm_memory_high_watermark_paging_ratio: float = option(
        0.5,
        Option(
            "what messages that wait in queues may take in memory, as a share of the limit of the memory alarm; the "
            "rest is on disk only",
            share(1),
            metavar="SHARE",
        ),
    )
    total_memory_available_override_value: int = option(
        0,
        Option(
            "memory that shares are taken of; infinity is what the machine has, or what its container may use",
            or_infinity(size(1, _SIZE_MAX)),
            unit="bytes",
            show=show_limit,
            metavar="SIZE|infinity",
        ),
    )
    disk_free_limit_absolute: int = option(
        50_000_000,
        Option(
            "disk alarm: publishers wait while less than this is free in the data folder's file system; 0 is none",
            size(0, _SIZE_MAX),
            unit="bytes",
            keys=("disk_free_limit.absolute",),
            metavar="SIZE",
        ),
    )
    disk_free_limit_relative: float = option(
        0.0,
        Option(
            "disk alarm: the same as a share of the memory; goes before the absolute one unless it is 0",
            share(100),
            keys=("disk_free_limit.relative",),
            metavar="SHARE",
        ),
    )
    memory_monitor_interval: int = option(
        1000,
        Option(
            "time between two looks at memory and disk; less near a limit",
            whole_number(10, 3_600_000),
            unit="ms",
            metavar="N",
        ),
    )
    warnings: tuple[str, ...] = ()
    """What `load` met and passed over; for the log."""


def options() -> dict[str, Option]:
    """The options by their names, in the order of the fields."""
    return {each.name: each.metadata["option"] for each in fields(Config) if "option" in each.metadata}


def default_of(name: str) -> Any:
    """The default of an option."""
    return next(each.default for each in fields(Config) if each.name == name and each.default is not MISSING)


def environment_name(name: str) -> str:
    """The environment variable of an option."""
    return ENVIRONMENT_PREFIX + name.upper()


def default_text(name: str, described: Option) -> str:
    """The default as help and the sample file show it."""
    default = default_of(name)
    return described.default_text or ("" if default is None else described.show(default))


def explanation(described: Option) -> str:
    """The help of an option with its unit behind the first part."""
    head, semicolon, tail = described.help.partition(";")
    return f"{head}, in {described.unit}{semicolon}{tail}" if described.unit else described.help


# --- reading


class Value(NamedTuple):
    """A value that stands somewhere, not yet parsed."""

    place: Place
    text: str


def parse_line(line: str, place: Place, environ: Mapping[str, str]) -> Value | None:
    """Key and value of one line of a file; None if it holds neither.

    Raises: ConfigError if it is not `key = value`, a quote stays open, or a `$(VARIABLE)` is not set.
    """
    line = line.strip()
    if not line or line.startswith("#"):
        return None
    key, equals, rest = line.partition("=")
    key, rest = key.strip(), rest.strip()
    if not equals or _KEY.fullmatch(key) is None:
        # Its first word only: the rest may be a password behind a forgotten "=".
        raise ConfigError(f"{place.source}:{place.line}: {line.split()[0]!r}: expected key = value")
    place = place._replace(key=key)
    secret = (described := options().get(key)) is not None and described.secret
    if rest[:1] in ("'", '"'):
        value, closed, after = rest[1:].partition(rest[0])
        if not closed or not (after.strip() == "" or after.lstrip().startswith("#")):
            raise place.error(
                rest, "the quoted value must end with the same quote, with nothing but a comment after it", secret
            )
    else:
        value = rest.partition("#")[0].strip()
    for name in _VARIABLE.findall(value):
        if name not in environ:
            raise place.error(value, f"the environment variable {name} is not set", secret)
    return Value(place, _VARIABLE.sub(lambda found: environ[found[1]], value))


def parse_listener(value: Value) -> tuple[str | None, str]:
    """Host and port of a `listeners.tcp.NAME` line: `5672`, `127.0.0.1:5672`, `::1:5672` or `[::1]:5672`; None is no
    host.

    Raises: ConfigError if there is a colon and nothing before it.
    """
    host, colon, port = value.text.rpartition(":")
    if not colon:
        return None, port
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise value.place.error(value.text, "must be a port or address:port")
    return host, port


def parse_flag(value: Value) -> bool:
    """The value of a line that is either true or false.

    Raises: ConfigError if it is neither.
    """
    if value.text not in ("true", "false"):
        raise value.place.error(value.text, "must be true or false")
    return value.text == "true"


def read_file(file: Path, environ: Mapping[str, str]) -> tuple[dict[str, Value], list[str]]:
    """The options that a file sets, and warnings about the keys that are not known.

    Raises: ConfigError if it cannot be read or a line is malformed.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"cannot read the configuration file {file}: {reason}") from error
    by_key = {
        key: name for name, described in options().items() if described.in_file for key in (name, *described.keys)
    }
    found: dict[str, Value] = {}
    loopback: dict[str, bool] = {}
    listener: Value | None = None
    warnings: list[str] = []
    for number, line in enumerate(lines, 1):
        value = parse_line(line, Place(str(file), number, ""), environ)
        if value is None:
            continue
        key = value.place.key
        if key in by_key:
            found[by_key[key]] = value
        elif key.startswith("loopback_users."):
            loopback[key.removeprefix("loopback_users.")] = parse_flag(value)
            # RabbitMQ's reading: with any such line, the set is what these lines say is true, and no more.
            names = frozenset(name for name, restricted in loopback.items() if restricted)
            found["loopback_users"] = Value(value.place, show_user_names(names))
        elif key.startswith("listeners.tcp."):
            if listener is not None and listener.place.key != key:
                warnings.append(f"{file}:{number}: {key}: one listener is supported, {listener.place.key} is ignored")
                if "host" in found and found["host"].place == listener.place:
                    del found["host"]
            listener = value
            host, port = parse_listener(value)
            found["port"] = Value(value.place, port)
            if host is not None:
                found["host"] = Value(value.place, host)
        else:
            warnings.append(f"{file}:{number}: {key}: not known, ignored")
    return found, warnings


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Value], list[str]]:
    """The options that environment variables set, and warnings about `LEVERET_...` variables that are none."""
    by_name = {environment_name(name): name for name in options()}
    found: dict[str, Value] = {}
    warnings: list[str] = []
    for key in sorted(
        key for key in environ if key.startswith(ENVIRONMENT_PREFIX) and key not in ENVIRONMENT_OF_THE_BUILD
    ):
        if environ[key].startswith("tcp://") and key.endswith("_PORT"):
            # Kubernetes sets LEVERET_PORT=tcp://10.0.0.1:5672 in every container beside a service that is called
            # leveret.
            warnings.append(f"environment {key} = {environ[key]!r}: set by a service link, ignored")
        elif key in by_name:
            found[by_name[key]] = Value(Place("environment", 0, key), environ[key])
        else:
            warnings.append(f"environment {key}: not known, ignored")
    return found, warnings


def read_arguments(argv: Sequence[str]) -> dict[str, Value]:
    """The options that the command line sets.

    Raises: SystemExit after `--help`, and with a message when an option is not known or lacks its value.
    """
    # Imported by the command alone: an embedded node has no command line.
    import argparse

    parser = argparse.ArgumentParser(
        prog="leveret serve",
        description="Run one node in the foreground.",
        epilog="Every option is also an environment variable (LEVERET_PORT for --port) and a key of the configuration "
        "file.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for name, described in options().items():
        default = default_text(name, described)
        shown = f"{explanation(described)} [{default}]" if default else explanation(described)
        # argparse formats help texts with the % operator.
        parser.add_argument(flag(name), dest=name, metavar=described.metavar, help=shown.replace("%", "%%"))
    return {
        name: Value(Place("command line", 0, flag(name)), value)
        for name, value in vars(parser.parse_args(argv)).items()
    }


def flag(name: str) -> str:
    """The command line's form of an option's name."""
    return "--" + name.replace("_", "-")


def load(argv: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The configuration of a node. `argv` are the arguments behind `serve`.

    Raises: ConfigError if a value is bad or the file cannot be read; SystemExit as the command line's parser does.
    """
    from_arguments = read_arguments(argv)
    from_environment, warnings = read_environment(environ)
    from_file: dict[str, Value] = {}
    file = from_arguments.get("config") or from_environment.get("config")
    if file is not None:
        from_file, file_warnings = read_file(parse(file, options()["config"]), environ)
        warnings += file_warnings
    values = from_file | from_environment | from_arguments
    parsed: dict[str, Any] = {name: parse(value, options()[name]) for name, value in values.items()}
    parsed.setdefault("node_name", node_name_here())
    parsed.setdefault("cluster_name", parsed["node_name"])
    config = Config(**parsed, warnings=tuple(warnings))
    check(config)
    return config


def parse(value: Value, described: Option) -> Any:
    """The parsed value.

    Raises: ConfigError naming the place if it is not valid.
    """
    try:
        return described.parse(value.text)
    except ValueError as error:
        raise value.place.error(value.text, str(error), described.secret) from None


def check(config: Config) -> None:
    """What no option can tell alone.

    Raises: ConfigError if two listeners share a port.
    """
    ports = {"port": config.port, "management_port": config.management_port, "prometheus_port": config.prometheus_port}
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port and port in taken:
            raise ConfigError(f"{taken[port]} and {name} are both {port}: each listener needs a port of its own")
        taken[port] = name


def node_name_here() -> str:
    """The node name of a node that was given none: the host name up to its first dot, as RabbitMQ's short names."""
    host = socket.gethostname().partition(".")[0]
    return f"leveret@{re.sub(r'[^A-Za-z0-9_-]', '-', host) or 'localhost'}"


# --- the sample file


def sample_file() -> str:
    """The text of conf/leveret.conf: every option with its explanation and its default, commented out."""
    lines = [
        "# Configuration of a Leveret node, in the dialect of rabbitmq.conf: key = value, # starts a comment.",
        "# Read with `scripts/serve --config conf/leveret.conf`. What is commented out is the default.",
        "# Command line and environment (LEVERET_PORT for port) go before this file.",
    ]
    for name, described in options().items():
        if not described.in_file:
            continue
        shown = explanation(described)
        also = f" (RabbitMQ: {', '.join(described.keys)})" if described.keys else ""
        lines += ["", f"# {shown[0].upper()}{shown[1:]}{also}.", f"#{name} = {default_text(name, described)}"]
    return "\n".join(lines) + "\n"
