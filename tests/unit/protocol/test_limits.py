"""Bounds from the configuration (broker/protocol/limits.py)."""

from __future__ import annotations

from broker.protocol.limits import Limits


def test_limits_are_rabbitmqs_defaults() -> None:
    """3.13's: 2047 channels, 131,072 octets, 60 s, 128 MiB, ten seconds for the handshake; no others."""
    limits = Limits()
    assert (limits.channel_max, limits.frame_max, limits.heartbeat_s, limits.message_size_max) == (
        2047,
        131072,
        60,
        134_217_728,
    )
    assert (limits.consumers_per_channel_max, limits.prefetch_default, limits.handshake_timeout_ms) == (0, 0, 10_000)
