"""A client of our own broker without a socket: what the API changes or moves, it does as any AMQP client would.

So every rule has one home: who may do what, what is refused and in which words, which promise waits for the disk.
RabbitMQ's management works the same way (its "direct" connections). The connection is not listed among the clients'.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from pamqp.base import Frame

from broker.errors import ACCESS_REFUSED, NAMES
from broker.management.answers import Failure, bad_request, not_authorised
from broker.protocol.connection import Connection
from broker.protocol.outbox import Outbox, Piece, Sink
from broker.protocol.session import Negotiated
from broker.wire import properties, spec
from broker.wire.frames import FrameReader
from broker.wire.methods import decode, method_frame
from broker.wire.properties import Properties
from broker.wire.writer import make_content

if TYPE_CHECKING:
    from broker.protocol.server import Server
    from broker.vhost.vhost import VHost

ANSWER_TIMEOUT_S: Final = 30.0
"""A promise that takes longer is reported as a failure; a change without a quorum gives up before that."""
_CHANNEL: Final = 1
_WITH_CONTENT: Final = (spec.BASIC_RETURN, spec.BASIC_GET_OK)
_PAYLOAD_MAX: Final = 1 << 20


class Refused(Exception):
    """The broker closed the channel or connection: a reply code and its text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    @property
    def explanation(self) -> str:
        """The text without the name of the code in front."""
        return self.text.removeprefix(f"{NAMES.get(self.code, '')} - ")

    @property
    def failure(self) -> Failure:
        """What the caller of the API is told (RabbitMQ: ``rabbit_mgmt_util:direct_request``)."""
        if self.code == ACCESS_REFUSED:
            return not_authorised("Access refused.")
        return bad_request(self.explanation)


class Answer:
    """A method from the broker, with its content if it has one."""

    def __init__(self, index: int, fields: Frame) -> None:
        self.index = index
        self.fields = fields
        self.properties = Properties()
        self.body = b""


class Loopback(Sink):
    """One connection with one channel: `async with Loopback(...) as client: await client.ask(...)`."""

    def __init__(self, server: Server, vhost: VHost, user: str) -> None:
        self._turn = server.turn
        self._outbox = Outbox(self)
        self._connection = Connection(server, Negotiated("management", user, vhost), self._outbox, FrameReader(0))
        self._reader = FrameReader(0)
        self._answers: list[Answer] = []
        self._missing = 0
        self._parts: list[bytes] = []
        self._heard: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        await self.ask(method_frame(_CHANNEL, spec.CHANNEL_OPEN, [("shortstr", "")]))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.lost()

    async def ask(self, *frames: bytes) -> list[Answer]:
        """What the broker says to these frames, up to the method that answers them; a basic.return comes before that.

        Raises: Refused if it closes the channel or connection, TimeoutError if no answer comes.
        """
        self._answers = []
        heard = asyncio.get_running_loop().create_future()
        self._heard = heard
        self.tell(*frames)
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            await heard
        return self._answers

    def tell(self, *frames: bytes) -> None:
        """Send what has no answer."""
        for frame in frames:
            self._turn.admit(len(frame))  # as the transport does: what comes of it is bounded in time
            self._connection.receive(frame)

    async def call(self, index: int, *values: tuple[str, object]) -> Answer:
        """Send a method and return its answer. Raises: as ``ask``."""
        return (await self.ask(method_frame(_CHANNEL, index, list(values))))[-1]

    async def publish(self, exchange: str, routing_key: str, described: Properties, body: bytes) -> tuple[bool, bool]:
        """Publish a message, mandatory and with a confirm: whether it reached a queue, and whether every queue took it.

        Raises: as ``ask``.
        """
        await self.call(spec.CONFIRM_SELECT, ("octet", 0))
        method = method_frame(
            _CHANNEL,
            spec.BASIC_PUBLISH,
            [("short", 0), ("shortstr", exchange), ("shortstr", routing_key), ("octet", 1)],
        )
        content, _ = make_content(_CHANNEL, properties.encode(described), body, _PAYLOAD_MAX)
        answers = await self.ask(method + content)
        indexes = [answer.index for answer in answers]
        return spec.BASIC_RETURN not in indexes, spec.BASIC_NACK not in indexes

    # ---- Sink: what the broker writes --------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """The broker says something."""
        try:
            reader = self._reader
            reader.feed(data)
            while reader.next():
                self._take(int(reader.frame_type), reader.data, int(reader.start), int(reader.end))
        except Exception as error:  # it is this request's alone: whoever writes has others to serve
            if self._heard is None or self._heard.done():
                raise
            self._heard.set_exception(error)

    def write_pieces(self, pieces: list[Piece]) -> None:
        """The broker says something, in pieces."""
        for piece in pieces:
            self.write(bytes(piece))

    def _take(self, kind: int, data: bytes, start: int, end: int) -> None:
        if kind == spec.FRAME_METHOD:
            method = decode(data, start, end, any_octets=True)
            self._answers.append(Answer(method.index, method.fields))
            if method.index not in _WITH_CONTENT:
                self._complete()
        elif kind == spec.FRAME_HEADER:
            self._missing = int.from_bytes(data[start + 4 : start + 12], "big")
            self._parts = []
            self._answers[-1].properties = properties.decode(data, start + 12, end)
            if not self._missing:
                self._complete()
        elif kind == spec.FRAME_BODY:
            self._parts.append(data[start:end])
            self._missing -= end - start
            if not self._missing:
                self._answers[-1].body = b"".join(self._parts)
                self._parts = []
                self._complete()

    def _complete(self) -> None:
        last = self._answers[-1]
        if last.index == spec.BASIC_RETURN:
            return  # the confirm follows
        heard = self._heard
        if heard is None or heard.done():
            return
        if last.index in (spec.CHANNEL_CLOSE, spec.CONNECTION_CLOSE):
            heard.set_exception(Refused(last.fields.reply_code, last.fields.reply_text))  # type: ignore[attr-defined]
        else:
            heard.set_result(None)

    def pause_reading(self) -> None:
        """An alarm holds publishers back; a message that a person sends by hand is not what fills the memory."""

    def resume_reading(self) -> None:
        """The alarm is over."""

    def close(self) -> None:
        """There is no socket."""

    def await_close(self) -> None:
        """There is no socket."""

    def abort(self) -> None:
        """There is no socket."""
