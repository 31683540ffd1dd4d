"""Options: one declaration serves command line, environment, file and help; what is wrong is said with its place.

Sources: RabbitMQ docs "Configuration" (the rabbitmq.conf format), RabbitMQ 3.13 `rabbit.schema` (names, defaults,
readings).
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import config
from broker.config import Config, ConfigError
from broker.watermarks import watermarks

CHECKOUT = Path(__file__).resolve().parents[2]


def from_file(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    file = tmp_path / "leveret.conf"
    file.write_text(text, encoding="utf-8")
    return config.load(["--config", str(file)], environ or {})


def problem(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path, text, environ)
    return str(caught.value).replace(str(tmp_path), "")


class TestDefaults:
    def test_they_are_those_of_rabbitmq_3_13_and_of_the_design(self) -> None:
        """RabbitMQ 3.13 `rabbit.schema`; docs/protocol.md and "Two commands"."""
        made = config.load([], {})
        expected: dict[str, Any] = {
            "host": "localhost",
            "port": 5672,
            "data_dir": Path("data"),
            "config": None,
            "management_port": 15672,
            "prometheus_port": 15692,
            "identity": "rabbitmq",
            "heartbeat": 60,
            "frame_max": 131072,
            "channel_max": 2047,
            "max_message_size": 134217728,
            "handshake_timeout": 10000,
            "send_timeout": 30000,
            "consumer_timeout": 1800000,
            "loopback_users": frozenset({"guest"}),
            "default_user": "guest",
            "default_pass": "guest",
            "default_vhost": "/",
            "consumer_max_per_channel": 0,
            "max_connections": 0,
            "channel_max_per_node": 0,
            "default_consumer_prefetch": 0,
            "log_level": "info",
            "log_format": "console",
            "backlog": 4096,
            "vm_memory_high_watermark_relative": None,
            "vm_memory_high_watermark_absolute": 0,
            "vm_memory_high_watermark_paging_ratio": 0.5,
            "total_memory_available_override_value": 0,
            "disk_free_limit_absolute": 50_000_000,
            "disk_free_limit_relative": 0.0,
            "memory_monitor_interval": 1000,
            "warnings": (),
        }
        actual = {each.name: getattr(made, each.name) for each in dataclasses.fields(made)}
        names = {name: actual.pop(name) for name in ("node_name", "cluster_name")}
        assert actual == expected
        assert names["node_name"].startswith("leveret@")
        assert names["cluster_name"] == names["node_name"]

    @pytest.mark.parametrize(
        ("host", "name"),
        [("web-1.example.org", "leveret@web-1"), ("", "leveret@localhost"), ("bad name", "leveret@bad-name")],
    )
    def test_the_node_name_comes_from_the_short_host_name(
        self, monkeypatch: pytest.MonkeyPatch, host: str, name: str
    ) -> None:
        """RabbitMQ docs, Clustering: nodes use short host names by default."""
        monkeypatch.setattr("socket.gethostname", lambda: host)
        assert config.load([], {}).node_name == name

    def test_a_config_made_directly_has_the_same_defaults(self) -> None:
        loaded = config.load([], {})
        assert dataclasses.replace(loaded, node_name="", cluster_name="") == Config()

    def test_a_config_cannot_be_changed(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Config().port = 1  # type: ignore[misc]

    def test_every_default_is_a_value_its_own_parser_takes(self) -> None:
        for name, described in config.options().items():
            if described.default_text or config.default_of(name) is None:
                continue
            assert described.parse(config.default_text(name, described)) == config.default_of(name), name


class TestPrecedence:
    def test_command_line_before_environment_before_file_before_default(self, tmp_path: Path) -> None:
        """README, "Two commands"."""
        file = tmp_path / "f.conf"
        file.write_text("port = 1001\nheartbeat = 11\nbacklog = 21\n")
        environ = {"LEVERET_CONFIG": str(file), "LEVERET_PORT": "1002", "LEVERET_HEARTBEAT": "12"}
        made = config.load(["--port", "1003"], environ)
        assert (made.port, made.heartbeat, made.backlog, made.channel_max) == (1003, 12, 21, 2047)
        assert made.config == file

    def test_the_last_line_of_a_file_wins_whatever_name_it_uses(self, tmp_path: Path) -> None:
        assert from_file(tmp_path, "management_port = 1\nmanagement.tcp.port = 2\n").management_port == 2
        assert from_file(tmp_path, "management.tcp.port = 2\nmanagement_port = 1\n").management_port == 1

    @pytest.mark.parametrize("name", list(config.options()))
    def test_every_option_is_reached_by_every_way(self, tmp_path: Path, name: str) -> None:
        samples = {
            "host": "::1", "data_dir": "/d", "node_name": "a@b", "config": str(tmp_path / "x.conf"),
            "identity": "leveret", "loopback_users": "none", "log_level": "debug", "log_format": "json",
            "default_vhost": "v", "cluster_name": "c", "vm_memory_high_watermark_relative": "0.7",
            "disk_free_limit_relative": "1.5", "vm_memory_high_watermark_paging_ratio": "0.25",
        }  # fmt: skip
        (tmp_path / "x.conf").write_text("")
        text = samples.get(name, "4097")
        expected = config.options()[name].parse(text)
        assert getattr(config.load([config.flag(name), text], {}), name) == expected
        assert getattr(config.load([], {config.environment_name(name): text}), name) == expected
        if config.options()[name].in_file:
            assert getattr(from_file(tmp_path, f"{name} = {text}"), name) == expected
            for key in config.options()[name].keys:
                assert getattr(from_file(tmp_path, f"{key} = {text}"), name) == expected


class TestDialect:
    """RabbitMQ docs, Configuration: "The Main Configuration File", and the cuttlefish grammar behind it."""

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("default_pass = secret", "secret"),
            ("  default_pass=secret  ", "secret"),
            ("default_pass = secret # not this", "secret"),
            ("default_pass = 'a # b'", "a # b"),
            ('default_pass = "a # b"   # c', "a # b"),
            ("default_pass = a = b", "a = b"),
            ("default_pass = ''", ""),
            ("default_pass = pässword", "pässword"),
            ("default_pass = $(SEED)-$(SEED)", "oak-oak"),
            ("default_pass = secret\r", "secret"),
        ],
    )
    def test_a_line(self, tmp_path: Path, line: str, value: str) -> None:
        assert from_file(tmp_path, f"# first\n\n{line}\n", {"SEED": "oak"}).default_pass == value

    def test_the_example_of_the_documentation(self, tmp_path: Path) -> None:
        made = from_file(
            tmp_path,
            """
            # a new style format snippet.  This format is used by rabbitmq.conf files.
            listeners.tcp.default = 5673
            management.tcp.port = 15673
            prometheus.tcp.port = 15693
            loopback_users = none
            heartbeat = 30
            connection_max = 1000
            channel_max = 128
            log.console.level = debug
            log.console.formatter = json
            tcp_listen_options.backlog = 128
            cluster_name = east
            """,
        )
        assert (made.host, made.port, made.management_port, made.prometheus_port) == ("localhost", 5673, 15673, 15693)
        assert (made.loopback_users, made.heartbeat, made.max_connections, made.channel_max) == (
            frozenset(),
            30,
            1000,
            128,
        )
        assert (made.log_level, made.log_format, made.backlog, made.cluster_name) == ("debug", "json", 128, "east")
        assert made.warnings == ()

    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("listeners.tcp.1 = 192.168.1.99:5673", "192.168.1.99", 5673),
            ("listeners.tcp.local = ::1:5673", "::1", 5673),
            ("listeners.tcp.1 = [::]:5673", "::", 5673),
            ("listeners.tcp.1 = :::5673", "::", 5673),
            ("listeners.tcp.default = 0", "localhost", 0),
            ("port = 1\nlisteners.tcp.1 = 5673", "localhost", 5673),
            ("listeners.tcp.1 = 5673\nhost = ::", "::", 5673),
        ],
    )
    def test_listeners(self, tmp_path: Path, text: str, host: str, port: int) -> None:
        """RabbitMQ docs, Networking: "Interfaces", listeners.tcp.*."""
        made = from_file(tmp_path, text)
        assert (made.host, made.port, made.warnings) == (host, port, ())

    def test_of_several_listeners_the_last_is_used_and_the_others_are_warned_about(self, tmp_path: Path) -> None:
        made = from_file(tmp_path, "listeners.tcp.1 = 10.0.0.1:5673\nlisteners.tcp.2 = 5674")
        assert (made.host, made.port) == ("localhost", 5674)
        assert made.warnings == (
            f"{tmp_path}/leveret.conf:2: listeners.tcp.2: one listener is supported, listeners.tcp.1 is ignored",
        )

    @pytest.mark.parametrize(
        ("text", "users"),
        [
            ("loopback_users = none", set()),
            ("loopback_users.guest = false", set()),
            ("loopback_users.guest = true", {"guest"}),
            ("loopback_users.admin = true", {"admin"}),
            ("loopback_users.guest = true\nloopback_users.admin = true", {"guest", "admin"}),
            ("loopback_users.guest = false\nloopback_users.admin = true", {"admin"}),
            ("loopback_users = guest, admin", {"guest", "admin"}),
            ("loopback_users.guest = true\nloopback_users = none", set()),
            ("loopback_users = none\nloopback_users.guest = true", {"guest"}),
        ],
    )
    def test_loopback_users(self, tmp_path: Path, text: str, users: set[str]) -> None:
        """RabbitMQ docs, Access Control: "guest" user; `rabbit.schema`: the lines that say true are the set."""
        assert from_file(tmp_path, text).loopback_users == users

    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("4096", 4096), ("64k", 65536), ("64kiB", 65536), ("64Ki", 65536), ("64KB", 64000), ("1M", 1 << 20),
            ("1MiB", 1 << 20), ("1MB", 1000000), ("16 MiB", 16 << 20), ("536870912", 512 << 20),
        ],
    )  # fmt: skip
    def test_sizes(self, tmp_path: Path, text: str, count: int) -> None:
        """RabbitMQ docs, Memory Thresholds: "Absolute": k, kiB, M, MiB, G, GiB by 1024; KB, MB, GB by 1000."""
        assert from_file(tmp_path, f"max_message_size = {text}").max_message_size == count

    @pytest.mark.parametrize(
        ("text", "memory", "disk"),
        [
            ("", 400, 50_000_000),
            ("vm_memory_high_watermark.relative = 0.6", 600, 50_000_000),
            ("vm_memory_high_watermark.relative = 0", 0, 50_000_000),
            ("vm_memory_high_watermark.absolute = 2GiB", 2 << 30, 50_000_000),
            ("vm_memory_high_watermark.absolute = 2GB\nvm_memory_high_watermark.relative = 0.5", 500, 50_000_000),
            ("vm_memory_high_watermark.absolute = infinity", 400, 50_000_000),
            ("total_memory_available_override_value = 1MB", 400_000, 50_000_000),
            ("total_memory_available_override_value = infinity", 400, 50_000_000),
            ("disk_free_limit.absolute = 500KB", 400, 500_000),
            ("disk_free_limit.absolute = 0", 400, 0),
            ("disk_free_limit.relative = 1.5", 400, 1500),
            ("disk_free_limit.relative = 2\ndisk_free_limit.absolute = 1GB", 400, 2000),
        ],
    )
    def test_watermarks(self, tmp_path: Path, text: str, memory: int, disk: int) -> None:
        """RabbitMQ docs, Memory and Free Disk Space Alarms; `rabbitmq.conf.example`: relative goes before absolute. Of
        1000 bytes."""
        made = from_file(tmp_path, text)
        assert made.warnings == ()
        assert watermarks(made, 1000) == (memory, disk)

    @pytest.mark.parametrize(
        "key", ["max_connections", "connection_max", "channel_max_per_node", "consumer_max_per_channel"]
    )
    def test_infinity_is_no_limit(self, tmp_path: Path, key: str) -> None:
        """RabbitMQ 3.13 `rabbit.schema`: these are `infinity` by default; 0 stands for it inside."""
        made = from_file(tmp_path, f"{key} = infinity")
        assert (made.max_connections, made.channel_max_per_node, made.consumer_max_per_channel) == (0, 0, 0)

    def test_unknown_keys_are_warned_about_and_never_fatal(self, tmp_path: Path) -> None:
        made = from_file(
            tmp_path,
            "vm_memory_calculation_strategy = rss\nport = 7\nssl_options.verify = verify_peer\nlisteners.tcp = none",
        )
        assert made.port == 7
        assert [warning.removeprefix(f"{tmp_path}/") for warning in made.warnings] == [
            "leveret.conf:1: vm_memory_calculation_strategy: not known, ignored",
            "leveret.conf:3: ssl_options.verify: not known, ignored",
            "leveret.conf:4: listeners.tcp: not known, ignored",
        ]

    def test_a_file_with_a_byte_order_mark_reads_like_one_without(self, tmp_path: Path) -> None:
        (tmp_path / "bom.conf").write_bytes(b"\xef\xbb\xbfport = 7\n")
        made = config.load(["--config", str(tmp_path / "bom.conf")], {})
        assert (made.port, made.warnings) == (7, ())


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("\nheartbeat = abc", "/leveret.conf:2: heartbeat = 'abc': must be a whole number from 0 to 65535"),
            ("heartbeat = -1", "/leveret.conf:1: heartbeat = '-1': must be a whole number from 0 to 65535"),
            ("heartbeat = 65536", "/leveret.conf:1: heartbeat = '65536': must be a whole number from 0 to 65535"),
            ("heartbeat =", "/leveret.conf:1: heartbeat = '': must be a whole number from 0 to 65535"),
            ("heartbeat = ٣", "/leveret.conf:1: heartbeat = '٣': must be a whole number from 0 to 65535"),
            ("connection_max = 0",
             "/leveret.conf:1: connection_max = '0': must be a whole number from 1 to 2147483648, or infinity"),
            ("listeners.tcp.1 = a:b", "/leveret.conf:1: listeners.tcp.1 = 'b': must be a whole number from 0 to 65535"),
            ("listeners.tcp.1 = :5672", "/leveret.conf:1: listeners.tcp.1 = ':5672': must be a port or address:port"),
            ("frame_max = 100", "/leveret.conf:1: frame_max = '100': must be from 4096 to 16777216 bytes"),
            ("max_message_size = 1 GB",
             "/leveret.conf:1: max_message_size = '1 GB': must be from 1 to 536870912 bytes"),
            ("max_message_size = many",
             "/leveret.conf:1: max_message_size = 'many': must be a size in bytes such as 134217728, 128MiB "
             "or 134MB"),
            ("vm_memory_high_watermark.relative = 1.1",
             "/leveret.conf:1: vm_memory_high_watermark.relative = '1.1': must be a share "
             "from 0 to 1 such as 0.4"),
            ("disk_free_limit.relative = -1",
             "/leveret.conf:1: disk_free_limit.relative = '-1': must be a share from 0 to 100 "
             "such as 0.4"),
            ("disk_free_limit.relative = 40%",
             "/leveret.conf:1: disk_free_limit.relative = '40%': must be a share from 0 to 100 "
             "such as 0.4"),
            ("vm_memory_high_watermark.absolute = much",
             "/leveret.conf:1: vm_memory_high_watermark.absolute = 'much': must be a size in "
             "bytes such as 134217728, 128MiB or 134MB, or infinity"),
            ("identity = kafka", "/leveret.conf:1: identity = 'kafka': must be one of rabbitmq, leveret"),
            ("loopback_users.guest = no", "/leveret.conf:1: loopback_users.guest = 'no': must be true or false"),
            ("loopback_users = a,,b",
             "/leveret.conf:1: loopback_users = 'a,,b': must be user names with commas between them, or none"),
            ("node_name = rabbit", "/leveret.conf:1: node_name = 'rabbit': must look like name@host: letters, digits, "
             "and the characters . _ -"),
            ("default_user =", "/leveret.conf:1: default_user = '': must not be empty"),
            ("host = 'a' b", "/leveret.conf:1: host = \"'a' b\": the quoted value must end with the same quote, "
             "with nothing but a comment after it"),
            ("host = $(NOT_SET)", "/leveret.conf:1: host = '$(NOT_SET)': the environment variable NOT_SET is not set"),
            ("port 5672", "/leveret.conf:1: 'port': expected key = value"),
            ("[{rabbit, []}].", "/leveret.conf:1: '[{rabbit,': expected key = value"),
        ],
    )  # fmt: skip
    def test_they_name_file_line_key_and_value(self, tmp_path: Path, text: str, message: str) -> None:
        assert problem(tmp_path, text) == message

    def test_they_name_the_environment_variable_or_the_argument(self) -> None:
        with pytest.raises(
            ConfigError, match=r"^environment LEVERET_PORT = 'x': must be a whole number from 0 to 65535$"
        ):
            config.load([], {"LEVERET_PORT": "x"})
        with pytest.raises(ConfigError, match=r"^command line --log-level = 'loud': must be one of debug, info, "):
            config.load(["--log-level", "loud"], {})

    @pytest.mark.parametrize(
        "text", ["default_pass = 'hunter2", "default_pass hunter2", "default_pass = hunter2 $(NOT_SET)"]
    )
    def test_they_never_show_a_password(self, tmp_path: Path, text: str) -> None:
        assert "hunter2" not in problem(tmp_path, text)

    def test_two_listeners_on_one_port(self) -> None:
        with pytest.raises(ConfigError, match="port and management_port are both 5000"):
            config.load(["--port", "5000", "--management-port", "5000"], {})
        ports = config.load(["--port", "0", "--management-port", "0", "--prometheus-port", "0"], {})
        assert (ports.port, ports.management_port, ports.prometheus_port) == (0, 0, 0)

    def test_a_file_that_is_missing_or_not_text(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"cannot read the configuration file .*none\.conf: No such file"):
            config.load(["--config", str(tmp_path / "none.conf")], {})
        (tmp_path / "binary.conf").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="not UTF-8"):
            config.load(["--config", str(tmp_path / "binary.conf")], {})

    def test_a_file_cannot_name_another_file(self, tmp_path: Path) -> None:
        assert from_file(tmp_path, "config = other.conf").warnings == (
            f"{tmp_path}/leveret.conf:1: config: not known, ignored",
        )

    def test_an_argument_that_is_not_known_ends_with_usage(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            config.load(["--prot", "1"], {})
        assert caught.value.code == 2
        assert "unrecognized arguments: --prot" in capsys.readouterr().err


class TestEnvironment:
    def test_a_variable_that_is_no_option_is_warned_about(self) -> None:
        assert config.load([], {"LEVERET_PROT": "1", "HOME": "/"}).warnings == (
            "environment LEVERET_PROT: not known, ignored",
        )

    def test_the_variables_of_the_scripts_are_no_mistake(self) -> None:
        assert config.load([], dict.fromkeys(config.ENVIRONMENT_OF_THE_BUILD, "1")).warnings == ()

    def test_the_link_to_a_service_of_our_name_is_not_taken_for_the_port(self) -> None:
        """Kubernetes docs, Service: "Environment variables": a service `leveret` sets LEVERET_PORT=tcp://... in every
        container."""
        made = config.load([], {"LEVERET_PORT": "tcp://10.0.0.11:5672"})
        assert made.port == 5672
        assert made.warnings == ("environment LEVERET_PORT = 'tcp://10.0.0.11:5672': set by a service link, ignored",)


class TestHelp:
    def test_it_lists_every_option_with_its_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            config.load(["--help"], {})
        assert caught.value.code == 0
        printed = " ".join(capsys.readouterr().out.split())
        for name, described in config.options().items():
            assert config.flag(name) in printed
            if default := config.default_text(name, described):
                assert f"[{default}]" in printed

    def test_the_sample_file_is_the_one_made_from_the_options(self) -> None:
        """Made anew with `python -c "from broker import config; print(config.sample_file(), end='')" >
        conf/leveret.conf`."""
        assert (CHECKOUT / "conf" / "leveret.conf").read_text(encoding="utf-8") == config.sample_file()

    def test_the_sample_file_changes_nothing(self, tmp_path: Path) -> None:
        made = from_file(tmp_path, config.sample_file())
        assert dataclasses.replace(made, config=None) == config.load([], {})

    def test_what_the_sample_file_shows_can_be_taken_out_of_its_comment(self, tmp_path: Path) -> None:
        lines = [
            line.removeprefix("#")
            for line in config.sample_file().splitlines()
            if line.startswith("#") and not line.startswith("# ")
        ]
        taken = [line for line in lines if "<" not in line]  # depends on the machine, or on another option
        assert len(taken) == len(config.options()) - 4
        made = from_file(tmp_path, "\n".join(taken))
        assert dataclasses.replace(made, config=None) == config.load([], {})


def test_the_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Config(default_pass="hunter2"))


def test_only_the_standard_library_is_imported() -> None:
    code = (
        "import sys; before = set(sys.modules); import broker.config; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names))"
    )
    # -S would hide site-packages, where the installed package is; the path of this process leads to the same build.
    path = str(Path(config.__file__).resolve().parents[1])
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {path!r}); {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["broker"]


@given(st.text(max_size=200))
def test_any_text_is_a_value_a_warning_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "any.conf"
    file.write_text(text, encoding="utf-8", errors="replace")
    try:
        outcome: Config | ConfigError = config.load(["--config", str(file)], {})
    except ConfigError as error:
        outcome = error
    assert isinstance(outcome, Config) or str(file) in str(outcome)
