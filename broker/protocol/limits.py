"""What one client, or all of them together, may ask for: bounds from the configuration."""

from __future__ import annotations

from typing import final

from broker.native import i64


@final
class Limits:
    """Bounds from the configuration; 0 means no limit."""

    def __init__(self) -> None:
        self.connections_max = 0
        """Open connections of the node."""
        self.node_channels_max = 0
        """Open channels of the node, over all connections."""
        self.channel_max = 2047
        self.frame_max = 131072
        self.heartbeat_s = 60
        self.message_size_max: i64 = 134_217_728
        self.consumers_per_channel_max = 0
        self.prefetch_default = 0
        self.handshake_timeout_ms = 10_000
        self.send_timeout_ms: i64 = 30_000
        self.consumer_timeout_ms: i64 = 1_800_000
        """How long a consumer of a quorum queue may have a message, unless it or its queue says something else."""
