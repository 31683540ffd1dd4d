"""Password hashes in RabbitMQ's format: base64(4 bytes of salt + hash(salt + password)) (RabbitMQ docs, Passwords)."""

import base64
import hashlib
import hmac
import os
from typing import Final

SHA256: Final = "rabbit_password_hashing_sha256"
SHA512: Final = "rabbit_password_hashing_sha512"
_ALGORITHMS: Final = {SHA256: "sha256", SHA512: "sha512"}
_SALT_SIZE: Final = 4


def hash_password(password: bytes, algorithm: str = SHA256, salt: bytes | None = None) -> str:
    """The stored form of a password; a random salt unless one is given."""
    chosen = os.urandom(_SALT_SIZE) if salt is None else salt
    digest = hashlib.new(_ALGORITHMS[algorithm], chosen + password).digest()
    return base64.b64encode(chosen + digest).decode()


def verify(password: bytes, stored: str, algorithm: str = SHA256) -> bool:
    """Whether ``password`` is the one whose stored form this is; in time that does not depend on where they differ."""
    raw = base64.b64decode(stored)
    expected = hash_password(password, algorithm, raw[:_SALT_SIZE])
    return hmac.compare_digest(expected, stored)
