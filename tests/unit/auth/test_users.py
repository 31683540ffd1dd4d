"""Who may log in, and from where (broker/auth/users.py; RabbitMQ docs, Access Control)."""

from __future__ import annotations

import pytest

from broker.auth.users import Users, is_loopback

LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::1%lo", ""]
ELSEWHERE = [
    "192.0.2.1",
    "0.0.0.0",
    "::",
    "2001:db8::1",
    "::ffff:192.0.2.1",
    "localhost",
    "example.com",
    "127.0.0.1.example.com",
    "1",
]


@pytest.mark.parametrize("address", LOOPBACK)
def test_loopback_addresses(address: str) -> None:
    """RabbitMQ's security advisories, loopback guest: IPv4-mapped IPv6 too; a unix socket has no address."""
    assert is_loopback(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_other_addresses(address: str) -> None:
    """A name is not an address, whatever it resolves to."""
    assert not is_loopback(address)


def made() -> Users:
    users = Users(frozenset({"guest"}))
    users.put("guest", "guest", ("administrator",))
    users.put("app", "pässword")
    return users


def test_the_right_password() -> None:
    user = made().authenticate("app", "pässword".encode(), "192.0.2.1")
    assert user is not None
    assert (user.name, user.tags) == ("app", ())


@pytest.mark.parametrize(
    ("name", "password"),
    [("app", b"wrong"), ("app", b""), ("App", "pässword".encode()), ("nobody", b"nobody"), ("", b"nobody"), ("", b"")],
)
def test_anything_else(name: str, password: bytes) -> None:
    """Nor the stand-in against which the passwords of unknown users are hashed."""
    assert made().authenticate(name, password, "127.0.0.1") is None


@pytest.mark.parametrize("address", LOOPBACK)
def test_guest_over_loopback(address: str) -> None:
    user = made().authenticate("guest", b"guest", address)
    assert user is not None
    assert user.tags == ("administrator",)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_guest_from_elsewhere(address: str) -> None:
    """RabbitMQ docs, Access Control, loopback_users."""
    assert made().authenticate("guest", b"guest", address) is None


def test_a_user_can_be_replaced() -> None:
    users = made()
    users.put("app", "new")
    assert users.authenticate("app", "pässword".encode(), "192.0.2.1") is None
    assert users.authenticate("app", b"new", "192.0.2.1") is not None


@pytest.mark.parametrize(
    ("name", "password", "peer", "reason"),
    [
        ("app", b"wrong", "127.0.0.1", "wrong password"),
        ("nobody", b"nobody", "127.0.0.1", "there is no such user"),
        ("guest", b"wrong", "192.0.2.1", "wrong password"),
        ("guest", b"guest", "192.0.2.1", "this user may log in from this machine only (loopback_users)"),
        ("guest", b"guest", "127.0.0.1", ""),
    ],
)
def test_the_log_is_told_why(name: str, password: bytes, peer: str, reason: str) -> None:
    user, why_not = made().judge(name, password, peer)
    assert (user is None, why_not) == (bool(reason), reason)
