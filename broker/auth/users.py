"""Who may log in, and from where."""

import ipaddress
from typing import Final, final

from broker.auth.passwords import hash_password, verify


@final
class User:
    """One user: name, stored password, tags."""

    def __init__(self, name: str, password_hash: str, tags: tuple[str, ...]) -> None:
        self.name = name
        self.password_hash = password_hash
        self.tags = tags


_NOBODY: Final = User("", hash_password(b"nobody"), ())


def is_loopback(address: str) -> bool:
    """Whether a peer's address is this machine's loopback (127.0.0.0/8, ::1, and IPv4-mapped forms of them)."""
    try:
        parsed = ipaddress.ip_address(address.split("%", 1)[0])
    except ValueError:
        return address == ""  # a unix socket has no address; it is local
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback


@final
class Users:
    """All users of the node, and those who may log in over loopback only (RabbitMQ docs, Access Control:
    loopback_users)."""

    def __init__(self, loopback_only: frozenset[str]) -> None:
        self.loopback_only = loopback_only
        self._users: dict[str, User] = {}

    def put(self, name: str, password: str, tags: tuple[str, ...] = ()) -> None:
        """Create or replace a user."""
        self._users[name] = User(name, hash_password(password.encode()), tags)

    def authenticate(self, name: str, password: bytes, peer: str) -> User | None:
        """The user, if the password is right and the peer's address allowed; unknown users cost the same time."""
        return self.judge(name, password, peer)[0]

    def judge(self, name: str, password: bytes, peer: str) -> tuple[User | None, str]:
        """The same, and for the log, not for the client, why a login is refused."""
        user = self._users.get(name, _NOBODY)
        right = verify(password, user.password_hash)
        if user is _NOBODY:
            return None, "there is no such user"
        if not right:
            return None, "wrong password"
        if name in self.loopback_only and not is_loopback(peer):
            return None, "this user may log in from this machine only (loopback_users)"
        return user, ""
