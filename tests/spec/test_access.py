"""Who may do what (RabbitMQ docs, Access Control): each method that names a resource asks, before it says whether there
is one (broker/auth/access.py)."""

from __future__ import annotations

import re
from typing import Any

import pytest

from broker.auth.access import READ, WRITE, Access, AccessControl
from tests.spec.access_cases import ALL, CASES, NONE, TOPICS, WORLD, Case
from tests.support.memory import Broker, Client
from tests.support.wire import METHODS, method, publish


class PatternAccess(Access):
    """What RabbitMQ's permissions are: a pattern each for configure, write and read, and two more for topic `t`."""

    def __init__(self, user: str, vhost: str) -> None:
        super().__init__(user, vhost)
        self.patterns = {"configure": NONE, "write": NONE, "read": NONE}
        self.topics = dict(zip((WRITE, READ), TOPICS, strict=True))
        self.asked = 0

    def may(self, permission: str, name: str) -> bool:
        self.asked += 1
        return re.search(self.patterns[permission], name) is not None

    def may_use_topic(self, permission: str, exchange: str, routing_key: str) -> bool:
        return exchange != "t" or re.search(self.topics[permission], routing_key) is not None


class Patterns(AccessControl):
    """The user guest may do everything, nobody else anything before the test says so."""

    def new_access(self, user: str, vhost: str) -> Access:
        return super().new_access(user, vhost) if user == "guest" else PatternAccess(user, vhost)


class Setting:
    """A node with the world of the cases, and a client who is refused everything."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.broker.server.access_control = Patterns()
        self.admin = self.broker.open()
        for name, arguments in WORLD:
            self.admin.ask(name, **arguments)
        self.client = self.limited()

    @property
    def access(self) -> PatternAccess:
        found = self.broker.server.access_control.access("other", "/")
        assert isinstance(found, PatternAccess)
        return found

    def limited(self) -> Client:
        client = self.broker.connect(user="other")
        client.ask("channel.open")
        return client

    def permit(self, configure: str = NONE, write: str = NONE, read: str = NONE) -> None:
        """From now on he may do that."""
        self.access.patterns = {"configure": configure, "write": write, "read": read}
        self.broker.vhost.access_changed()


def answer(client: Client) -> str:
    """The refusal as in the table, or nothing; server-given names shortened."""
    said = client.hear()[0].method
    if said.name not in ("channel.close", "connection.close"):
        return ""
    text = re.sub(r"^\w+ - | in vhost '/'", "", said.text("reply_text"))
    return re.sub(r"amq\.gen-[^']*", "amq.gen-", f"{said['reply_code']} {text}")


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_what_is_refused(case: Case) -> None:
    setting = Setting()
    setting.permit(case.configure, case.write, case.read)
    setting.client.send(case.frames(), method(1, "basic.qos", prefetch_count=2))
    assert answer(setting.client) == case.answer


def test_every_method_that_names_a_resource_is_there() -> None:
    """Passive declarations, too; a further method has to say what it asks for."""
    naming = {
        name
        for name, spec in METHODS.items()
        if not name.endswith("-ok")
        and {argument for argument, _ in spec.fields} & {"queue", "exchange", "source", "destination"}
    } - {"basic.deliver", "basic.return"}
    assert naming - {case.name for case in CASES} == set()


def test_what_was_refused_has_changed_nothing() -> None:
    setting = Setting()
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("queue.delete", {"queue": "q"}),
        ("exchange.delete", {"exchange": "x"}),
        ("queue.unbind", {"queue": "q", "exchange": "x", "routing_key": "k"}),
        ("queue.declare", {"queue": "new"}),
        ("exchange.declare", {"exchange": "new", "type": "direct"}),
    )
    for name, arguments in asked:
        assert "refused for user 'other'" in setting.client.ask_error(403, name, **arguments)
    setting.admin.publish("k", b"1", exchange="x")
    assert setting.admin.drain("q") == [b"1"]
    assert "no queue 'new'" in setting.admin.ask_error(404, "queue.declare", queue="new", passive=True)
    assert "no exchange 'new'" in setting.admin.ask_error(404, "exchange.declare", exchange="new", passive=True)


def test_a_route_that_somebody_else_has_found_is_not_everybody_s() -> None:
    setting = Setting()
    setting.admin.publish("k", b"1", exchange="x")
    setting.client.publish("k", b"2", exchange="x")
    refusal = "ACCESS_REFUSED - write access to exchange 'x' in vhost '/' refused for user 'other'"
    assert setting.client.channel_error(403) == refusal
    setting.admin.publish("k", b"3", exchange="t")
    setting.client.ask("channel.open")
    setting.permit(write=ALL)
    setting.client.publish("k", b"4", exchange="t")
    assert "topic 'k'" in setting.client.channel_error(403)
    assert setting.admin.drain("q") == [b"1", b"3"]


def test_a_permission_that_changes_holds_for_the_next_publish() -> None:
    setting = Setting()
    setting.permit(write="^x$")
    for _ in range(3):
        setting.client.publish("k", b"1", exchange="x")
    asked = setting.access.asked
    setting.client.publish("k", b"1", exchange="x")
    assert setting.access.asked == asked, "the same again costs nothing"
    setting.permit()
    setting.client.publish("k", b"2", exchange="x")
    assert "write access" in setting.client.channel_error(403)
    setting.permit(write="^x$")
    setting.client.ask("channel.open")
    setting.client.send(*(publish(1, "x", key, b"3") for key in ("k", "other", "k")))
    setting.client.expect_nothing()
    assert setting.admin.drain("q") == [b"1"] * 4 + [b"3"] * 2


def test_every_connection_of_a_user_has_the_same() -> None:
    setting = Setting()
    second = setting.limited()
    setting.permit(read="^q$")
    for client in (setting.client, second):
        client.ask("basic.consume", queue="q")
    assert setting.broker.server.access_control.access("other", "elsewhere") is not setting.access
