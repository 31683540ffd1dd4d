"""Clients that send bent conversations over real sockets, each in its own manner: they read, or not; answer, or not;
close, or vanish."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import struct
from dataclasses import dataclass
from typing import Final

from tests.fuzz import conversations, mutate
from tests.fuzz.in_memory import KNOWN_CODES, chosen
from tests.support.memory import opening
from tests.support.wire import (
    BODY,
    FRAME_END,
    HEADER,
    HEARTBEAT,
    METHOD,
    Frame,
    Method,
    header,
    heartbeat,
    method,
    read_method,
)

VICTIM_S: Final = 20.0
"""The longest that a client stays."""
STUCK_S: Final = 3.0
"""When a write gets no further for so long, because the client does not read and so is not read, it goes."""
ALL_FRAMES: Final = [mutate.frames_of(make()) for make in conversations.ALL]
DONORS: Final = [each for frames in ALL_FRAMES for each in frames]


class Manner(enum.Enum):
    """What a client does beside sending."""

    POLITE = "reads, answers closes, closes"
    SILENT = "reads, answers no close"
    DEAF = "reads nothing"
    VANISHING = "is gone with a reset in the middle"
    TRICKLING = "sends on, octet by octet, while its connection closes"


@dataclass
class LiveTally:
    """What was done, for the lines of progress."""

    frames: int = 0
    conversations: int = 0
    requests: int = 0
    answers: int = 0
    closed_channels: int = 0
    closed_connections: int = 0
    rounds: int = 0
    kills: int = 0
    stops: int = 0
    growth_mib: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.frames} frames in {self.conversations} conversations and {self.requests} HTTP requests to a node "
            f"in {self.rounds} rounds, {self.closed_channels} channels and {self.closed_connections} connections "
            f"closed, {self.answers} answers, {self.kills} kills, {self.stops} stops, memory up {self.growth_mib:.0f} "
            "MiB"
        )


async def run_client(address: tuple[str, int], chance: random.Random, tally: LiveTally, names: list[str]) -> None:
    """One client, from its connect to its end; meanwhile the node's name of its connection stands in `names`. A node
    that is gone, or ends the connection, is no error.

    Raises: AssertionError if the node says what is no AMQP, or closes with a reply code that is none
    """
    handshake_bent = chance.random() < 0.1
    heartbeat_s = chance.choice((0, 0, 0, 1, 60))
    start = opening(frame_max=chance.choice((4096, 8192, 131072)), heartbeat_s=heartbeat_s)
    frames = chosen(ALL_FRAMES, chance)
    if handshake_bent:
        head = start[:8] if chance.random() < 0.8 else mutate.octets(start[:8], chance)
        parts = [head, *mutate.bend(mutate.frames_of([start[8:]]) + frames, DONORS, chance)]
    else:
        parts = [start, *mutate.bend(frames, DONORS, chance)]
    manner = chance.choices(list(Manner), (8, 2, 2, 2, 3))[0]
    with socket.socket() as opened:
        opened.setblocking(False)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(VICTIM_S):
                await asyncio.get_running_loop().sock_connect(opened, address)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client = Client(opened, manner, chance, tally)
                name = "{}:{} -> {}:{}".format(*opened.getsockname(), *address)
                names.append(name)
                try:
                    sent = await client.live(mutate.cut(b"".join(parts), chance))
                finally:
                    names.remove(name)
                tally.frames += mutate.taken(parts, sent)
                tally.conversations += 1
        if manner is Manner.VANISHING or chance.random() < 0.2:
            reset(opened)


def reset(opened: socket.socket) -> None:
    """The socket will be closed with RST, whatever was not sent yet."""
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Client:
    """One connected client."""

    def __init__(self, opened: socket.socket, manner: Manner, chance: random.Random, tally: LiveTally) -> None:
        self.socket = opened
        self.manner = manner
        self.chance = chance
        self.tally = tally
        self.loop = asyncio.get_running_loop()
        self.received = bytearray()
        self.is_closing = False
        """The node has said connection.close."""
        self.ended = asyncio.Event()
        """The node has closed the socket."""

    async def live(self, pieces: list[bytes]) -> int:
        """Sends all that it can; how many octets these were."""
        listening = None if self.manner is Manner.DEAF else asyncio.create_task(self._listen())
        try:
            sent = await self._talk(pieces)
            await self._end()
        finally:
            if listening is not None:
                listening.cancel()
                found = (await asyncio.gather(listening, return_exceptions=True))[0]
                if isinstance(found, Exception) and not isinstance(found, OSError):
                    raise found
        return sent

    async def _send(self, data: bytes) -> None:
        async with asyncio.timeout(STUCK_S):
            await self.loop.sock_sendall(self.socket, data)

    async def _talk(self, pieces: list[bytes]) -> int:
        sent = 0
        last = self.chance.randrange(len(pieces)) if self.manner is Manner.VANISHING else len(pieces)
        for piece in pieces[:last]:
            if self.ended.is_set() or (self.is_closing and self.manner is not Manner.SILENT):
                break
            try:
                await self._send(piece)
            except (OSError, TimeoutError):
                break
            sent += len(piece)
            if self.chance.random() < 0.02:
                await asyncio.sleep(self.chance.choice((0.0, 0.001, 0.005)))
        return sent

    async def _end(self) -> None:
        match self.manner:
            case Manner.POLITE:
                await self._pause(0.02)
                if not self.is_closing:
                    await self._send(method(0, "connection.close", reply_code=200))
                await self._pause(0.1)
            case Manner.SILENT:
                await self._pause(0.05)
            case Manner.TRICKLING:
                await self._trickle()
            case Manner.DEAF | Manner.VANISHING:
                pass

    async def _pause(self, seconds: float) -> None:
        """Until the node closes the socket, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), seconds)

    async def _trickle(self) -> None:
        """Has the connection closed, if it is not yet, and goes on in single octets, with a header that announces too
        much among them."""
        if not self.is_closing:
            await self._send(
                self.chance.choice((method(0, "connection.close", reply_code=200), heartbeat(5), header(1, 1 << 40)))
            )
            await self._pause(0.02)
        more = b"".join(
            mutate.bend(
                [*self.chance.choice(ALL_FRAMES)[:4], Frame(HEADER, 1, header(1, 1 << 60)[7:-1])], DONORS, self.chance
            )
        )
        half = self.chance.randrange(20)
        await self._send(more[:half])
        for octet in more[half : half + 60]:
            await self._send(bytes([octet]))
            if self.chance.random() < 0.1:
                await asyncio.sleep(0)
        if self.chance.random() < 0.5:
            await self._send(method(0, "connection.close-ok"))
        await self._pause(0.05)

    async def _listen(self) -> None:
        try:
            while data := await self.loop.sock_recv(self.socket, 65536):
                self.received += data
                for frame in self._whole_frames():
                    await self._hear(frame)
        except OSError:
            pass
        finally:
            self.ended.set()

    def _whole_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        if self.received.startswith(b"AMQP"):  # what a wrong protocol header is answered with
            del self.received[:8]
        position = 0
        while len(self.received) - position >= 8:
            kind, channel, size = struct.unpack_from(">BHI", self.received, position)
            end = position + 7 + size
            assert kind in (METHOD, HEADER, BODY, HEARTBEAT), bytes(self.received[position : position + 64])
            assert size <= 131072, bytes(self.received[position : position + 64])
            if end >= len(self.received):
                break
            assert self.received[end] == FRAME_END, bytes(self.received[position : position + 64])
            frames.append(Frame(kind, channel, bytes(self.received[position + 7 : end])))
            position = end + 1
        del self.received[:position]
        return frames

    async def _hear(self, frame: Frame) -> None:
        if frame.kind != METHOD:
            return
        said = read_method(frame.payload)
        if "reply_code" in said.arguments:
            assert said["reply_code"] in KNOWN_CODES, said
        if said.name == "channel.close":
            self.tally.closed_channels += 1
            if self.manner is not Manner.SILENT:
                await self._answer(method(frame.channel, "channel.close-ok") + method(frame.channel, "channel.open"))
        elif said.name == "connection.close":
            await self._hear_close(said)

    async def _hear_close(self, said: Method) -> None:
        self.is_closing = True
        self.tally.closed_connections += 1
        if self.manner is Manner.POLITE:
            await self._answer(method(0, "connection.close-ok"))

    async def _answer(self, data: bytes) -> None:
        """Between two pieces of what is sent, as far as the socket takes it: a client that is not read must go on
        reading."""
        with contextlib.suppress(OSError):
            self.socket.send(data)
