"""Password hashes in RabbitMQ's format (broker/auth/passwords.py; RabbitMQ docs, Passwords)."""

from __future__ import annotations

import base64
import hashlib

import pytest

from broker.auth.passwords import SHA256, SHA512, hash_password, verify


def test_the_documented_example() -> None:
    """RabbitMQ docs, Passwords: salt 908D C60A and password test12."""
    assert (
        hash_password(b"test12", SHA256, bytes.fromhex("908DC60A"))
        == "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
    )


@pytest.mark.parametrize(("algorithm", "digest"), [(SHA256, hashlib.sha256), (SHA512, hashlib.sha512)])
def test_salt_and_hash_of_salt_and_password(algorithm: str, digest: object) -> None:
    assert callable(digest)
    stored = base64.b64decode(hash_password("pässword".encode(), algorithm))
    assert stored[4:] == digest(stored[:4] + "pässword".encode()).digest()


@pytest.mark.parametrize("algorithm", [SHA256, SHA512])
@pytest.mark.parametrize("password", [b"", b"guest", b"\xff\x00\xfe", b"x" * 1000])
def test_the_right_password_and_no_other(algorithm: str, password: bytes) -> None:
    stored = hash_password(password, algorithm)
    assert verify(password, stored, algorithm)
    for wrong in (password + b"x", password[:-1] + b"?", b"guess"):
        assert not verify(wrong, stored, algorithm)


def test_every_hash_has_its_own_salt() -> None:
    assert len({hash_password(b"guest") for _ in range(20)}) == 20
