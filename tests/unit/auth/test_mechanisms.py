"""SASL responses (broker/auth/mechanisms.py)."""

from __future__ import annotations

import pytest

from broker.auth.mechanisms import MECHANISMS, MalformedResponse, read_response
from tests.support.wire import Typed, table


def amqplain(**fields: object) -> bytes:
    """The content of a table, without its length."""
    return table(fields)[4:]


def credentials(mechanism: str, response: bytes) -> tuple[str, bytes]:
    found = read_response(mechanism, response)
    assert found is not None
    return found.user, found.password


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("guest", b"guest"),
        ("", b""),
        ("ü", "ß".encode()),
        ("u" * 300, b"\xff\xfe"),
        ("a b", b" spaces "),
        ("x@y", b"p:q"),
    ],
)
def test_plain(user: str, password: bytes) -> None:
    """RFC 4616: NUL user NUL password."""
    assert credentials("PLAIN", b"\x00" + user.encode() + b"\x00" + password) == (user, password)


@pytest.mark.parametrize(
    "response",
    [b"", b"\x00", b"guest", b"guest\x00guest", b"authz\x00guest\x00guest", b"\x00guest\x00gue\x00st", b"\x00\x00\x00"],
)
def test_plain_of_another_form(response: bytes) -> None:
    """RabbitMQ takes no authorization identity; a third NUL is no part of a password."""
    with pytest.raises(MalformedResponse):
        read_response("PLAIN", response)


def test_amqplain() -> None:
    """RabbitMQ docs, Access Control: a table of LOGIN and PASSWORD, without the table's length; other fields are
    ignored."""
    assert credentials("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD="secret", other=5)) == ("guest", b"secret")
    assert credentials("AMQPLAIN", amqplain(PASSWORD="ß", LOGIN="ü")) == ("ü", "ß".encode())


@pytest.mark.parametrize(
    "response",
    [
        b"", amqplain(LOGIN="guest"), amqplain(PASSWORD="guest"), amqplain(LOGIN=5, PASSWORD="guest"),
        amqplain(LOGIN="guest", PASSWORD=None),
        amqplain(LOGIN="guest", PASSWORD=["guest"]), table({"LOGIN": "guest", "PASSWORD": "guest"}),
        b"\x05LOGINS\xff\xff\xff\xff", amqplain(LOGIN="guest", PASSWORD="guest")[:-1],
        amqplain(login="guest", password="guest"), b"\xff" * 100,
    ],
)  # fmt: skip
def test_amqplain_of_another_form(response: bytes) -> None:
    with pytest.raises(MalformedResponse):
        read_response("AMQPLAIN", response)


def test_a_password_may_be_any_octets() -> None:
    found = read_response("AMQPLAIN", amqplain(LOGIN="guest", PASSWORD=Typed("S", b"\xff\xfe")))
    assert found is not None
    assert found.password == b"\xff\xfe"


@pytest.mark.parametrize("mechanism", ["", "plain", "EXTERNAL", "ANONYMOUS", "CRAM-MD5", "PLAIN ", "SCRAM-SHA-256"])
def test_other_mechanisms_are_unknown(mechanism: str) -> None:
    """Only what was offered can be chosen."""
    assert mechanism not in MECHANISMS
    assert read_response(mechanism, b"\x00guest\x00guest") is None
