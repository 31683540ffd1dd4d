"""Conversations with a broker, written down line by line.

A conversation is a function that takes a `Talk`. It opens clients, has them say frames and listen, and everything said
by either side becomes one line of the transcript; the same function against two brokers gives two transcripts to
compare. The listening side answers connection.close and channel.close by itself, and what a client would say after its
connection has ended is left out, so a conversation can be played to its end whatever the broker answers.

A line: who speaks (`>` the client, `<` the broker), the client's name with the channel, then the method with its
arguments, or words. Values of tables are written with their type tag (`I:5`, `S:'text'`), tables sorted by name. What
differs from run to run is numbered: `amq.gen-#1`, `amq.ctag-#1`; times of the day of the playing are `T:#time`.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Final, Self

from tests.support import wait
from tests.support.wire import (
    BODY,
    CAPABILITIES,
    HEADER,
    HEARTBEAT,
    METHOD,
    PROPERTIES,
    PROTOCOL_HEADER,
    Frame,
    Method,
    Said,
    Silence,
    SocketEnded,
    Typed,
    WireClient,
    WireError,
    method,
    publish,
    read_header,
    read_method,
    split_frames,
)  # fmt: skip

LISTEN_S: Final = 6.0
"""How long a client waits for an answer: RabbitMQ keeps the socket of a refused client for three seconds."""

VOLATILE: Final = (
    ("amq.gen-", re.compile(r"amq\.gen-[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")),
    ("amq.ctag-", re.compile(r"amq\.ctag-[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])")),
    ("amq.rabbitmq.reply-to.", re.compile(r"amq\.rabbitmq\.reply-to\.[A-Za-z0-9_+/=.-]{20,}")),
)
DAY_S: Final = 86400
SHOWN_BYTES: Final = 64
SHOWN_CHARACTERS: Final = 400
REPLY_TEXT_SIZE: Final = 255


def heard(lines: list[str]) -> list[str]:
    """The lines of a transcript that tell of the broker: what it says, and what a conversation concludes from it."""
    return [line for line in lines if line[0] in "<=!"]


@dataclass(frozen=True)
class Departure:
    """Where Leveret answers otherwise on purpose: why, and what the broker says instead.

    That is either every line that the broker says (`lines`), or what `rewrite` makes of each recorded one.
    """

    reason: str
    lines: tuple[str, ...] = ()
    rewrite: Callable[[str], str] | None = None

    def says(self, recorded: list[str]) -> list[str]:
        """Every line that the broker says."""
        if self.rewrite is None:
            return list(self.lines)
        return [self.rewrite(line) for line in heard(recorded)]


@dataclass(frozen=True)
class Conversation:
    """A conversation with the rule it shows and where that rule stands."""

    area: str
    name: str
    rule: str
    source: str
    play: Callable[[Talk], None]
    leveret: Departure | None = None


CONVERSATIONS: Final[dict[str, Conversation]] = {}


def conversation(
    name: str, rule: str, source: str, *, leveret: Departure | None = None
) -> Callable[[Callable[[Talk], None]], Callable[[Talk], None]]:
    """Registers the function below it; the area is the name of its module."""

    def register(play: Callable[[Talk], None]) -> Callable[[Talk], None]:
        area = play.__module__.rpartition(".")[2]
        add(area, name, rule, source, play, leveret)
        return play

    return register


def add(
    area: str, name: str, rule: str, source: str, play: Callable[[Talk], None], leveret: Departure | None = None
) -> None:
    """Registers a conversation; names are unique."""
    assert name not in CONVERSATIONS, f"two conversations are called {name}"
    CONVERSATIONS[name] = Conversation(area, name, rule, source, play, leveret)


def load(*areas: str) -> list[Conversation]:
    """The conversations of these modules of `tests.spec.conversations`, in the order they are written."""
    for area in areas:
        importlib.import_module(f"tests.spec.conversations.{area}")
    return [each for each in CONVERSATIONS.values() if each.area in areas]


# How values are written


def show(value: object) -> str:
    """A method argument or property as text; long ones are cut, with their length."""
    if isinstance(value, Typed):
        return show_typed(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}={show(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, bytes) and len(value) > SHOWN_BYTES:
        return f"{value[:16]!r}...({len(value)} bytes)"
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return f"{value[:16]!r}...({len(value)} characters)"
    return repr(value)


def show_typed(value: Typed) -> str:
    """A table value with its tag."""
    if value.tag == "V":
        return "V"
    if value.tag == "T" and isinstance(value.value, int) and abs(value.value - time.time()) < DAY_S:
        return "T:#time"
    if value.tag == "A":
        assert isinstance(value.value, list)
        return "A:[" + ", ".join(show(item) for item in value.value) + "]"
    return f"{value.tag}:{show(value.value)}"


def show_method(said: Method) -> str:
    """A method and its arguments; bits that are off, empty tables and the obsolete arguments that are empty are left
    out."""
    hidden = {
        "ticket": 0,
        "out_of_band": "",
        "known_hosts": "",
        "channel_id": b"",
        "capabilities": "",
        "insist": False,
        "cluster_id": "",
    }
    words = [said.name]
    for name, value in said.arguments.items():
        if (name in hidden and value == hidden[name]) or value == {} or (value is False and name != "redelivered"):
            continue
        words.append(name if value is True else f"{name}={show(value)}")
    return " ".join(words)


def show_properties(properties: Mapping[str, object]) -> str:
    """The properties that are set, in the order of the specification."""
    return " ".join(f"{name}={show(properties[name])}" for name, _ in PROPERTIES if name in properties)


def show_said(said: Said) -> str:
    """A method with its content."""
    text = show_method(said.method)
    if said.method.name in {"basic.deliver", "basic.get-ok", "basic.return"}:
        text += f" | {show_properties(said.properties)}".rstrip() + f" | {show(said.body)}"
        if len(said.body_frames) > 1:
            text += f" in frames of {', '.join(map(str, said.body_frames))}"
    return text


def show_frame(frame: Frame) -> str:
    """A frame that a client says; what is no proper method or header is shown as it stands."""
    if frame.kind == METHOD:
        with contextlib.suppress(WireError, struct.error):
            return show_method(read_method(frame.payload))
        return f"method frame {show_raw(frame.payload)}"
    if frame.kind == HEADER:
        with contextlib.suppress(WireError, struct.error):
            size, properties = read_header(frame.payload)
            class_id, weight = struct.unpack_from(">HH", frame.payload)
            odd = "" if (class_id, weight) == (60, 0) else f" class_id={class_id} weight={weight}"
            return f"header body_size={size}{odd} {show_properties(properties)}".rstrip()
        return f"header frame {show_raw(frame.payload)}"
    if frame.kind == BODY:
        return f"body {show(frame.payload)}"
    if frame.kind == HEARTBEAT and not frame.payload:
        return "heartbeat"
    return f"frame of type {frame.kind} {show_raw(frame.payload)}"


def show_raw(data: bytes) -> str:
    """Bytes in hex, cut when long."""
    return data.hex() if len(data) <= SHOWN_BYTES else f"{data[:16].hex()}...({len(data)} bytes)"


def names(declared: set[str]) -> list[str]:
    """What a broker called the objects declared under these names: without CR and LF; some cannot have been
    accepted."""
    stripped = {name.replace("\r", "").replace("\n", "") for name in declared}
    return sorted(
        name for name in stripped if name and not any("\ud800" <= character <= "\udfff" for character in name)
    )


def cannot_decode(data: bytes, class_id: int, method_id: int) -> tuple[str, str]:
    """The lines in which RabbitMQ refuses arguments it cannot read; the octets are written in decimal, the text cut as
    reply texts are."""
    text = "FRAME_ERROR - cannot decode <<" + ",".join(map(str, data)) + ">>"
    if len(text) > REPLY_TEXT_SIZE:
        text = text[: REPLY_TEXT_SIZE - 3] + "..."
    return (
        f"< a0 connection.close reply_code=501 reply_text={text!r} class_id={class_id} method_id={method_id}",
        "< a closes the socket",
    )


class Talk:
    """One playing of a conversation against one broker; `lines` is its transcript."""

    def __init__(self, host: str, port: int) -> None:
        """Says nothing yet."""
        self.host = host
        self.port = port
        self.lines: list[str] = []
        self.speakers: list[Speaker] = []
        self.queues: set[str] = set()
        self.exchanges: set[str] = set()
        self.numbers: dict[str, dict[str, int]] = {}

    def __enter__(self) -> Self:
        """For `with`: on leaving, clients go and what they declared is deleted."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes every client, then deletes what the conversation declared."""
        for speaker in self.speakers:
            speaker.leave()
        if self.queues or self.exchanges:
            Sweeper(self).sweep()

    def write(self, line: str) -> None:
        """Appends a line, with what differs from run to run numbered by first appearance."""
        for prefix, pattern in VOLATILE:
            line = pattern.sub(lambda found, prefix=prefix: self.number(prefix, found.group()), line)  # type: ignore[misc]
        self.lines.append(line)

    def number(self, prefix: str, name: str) -> str:
        """The stable form of a generated name."""
        known = self.numbers.setdefault(prefix, {})
        return f"{prefix}#{known.setdefault(name, len(known) + 1)}"

    def socket(self, name: str = "a") -> Speaker:
        """A client that has connected its socket and said nothing."""
        speaker = Speaker(self, name)
        self.speakers.append(speaker)
        return speaker

    def client(
        self,
        name: str = "a",
        *,
        channels: tuple[int, ...] = (1,),
        capabilities: Mapping[str, object] | None = CAPABILITIES,
        channel_max: int | None = None,
        frame_max: int | None = None,
    ) -> Speaker:
        """A client with an open connection and open channels; none of that is written down."""
        speaker = self.socket(name)
        speaker.client.handshake(capabilities=capabilities, channel_max=channel_max, frame_max=frame_max)
        for channel in channels:
            speaker.client.open_channel(channel)
        return speaker


class Speaker:
    """One client of a conversation."""

    def __init__(self, talk: Talk, name: str) -> None:
        """Connects the socket."""
        self.talk = talk
        self.name = name
        self.client = WireClient(talk.host, talk.port, deadline_s=LISTEN_S)
        self.ended = False
        self.is_open = True
        self.answers_close = True

    # saying

    def raw(self, data: bytes, words: str) -> None:
        """Says bytes that are no frames, written down as `words`."""
        if not self.ended:
            self.talk.write(f"> {self.name} {words}")
            self.client.send(data)

    def say(self, *frames: bytes) -> None:
        """Says whole frames, in one write; body frames that look alike are written down once, with their number."""
        if self.ended:
            return
        for line, alike in groupby(map(self.show, split_frames(b"".join(frames)))):
            count = len(list(alike))
            self.talk.write(line if count == 1 else f"{line} {count} times")
        self.client.send(*frames)

    def show(self, frame: Frame) -> str:
        """The line for a frame that this client says."""
        self.note(frame)
        return f"> {self.name}{frame.channel} {show_frame(frame)}"

    def note(self, frame: Frame) -> None:
        """Remembers what a frame declares, so that it can be deleted in the end."""
        if frame.kind != METHOD:
            return
        with contextlib.suppress(WireError, struct.error):
            said = read_method(frame.payload)
            if said.name == "queue.declare":
                self.talk.queues.add(said.text("queue"))
            if said.name == "exchange.declare":
                self.talk.exchanges.add(said.text("exchange"))

    def tell(self, channel: int, name: str, /, **arguments: object) -> None:
        """Says a method that has no answer, or whose answer is heard later."""
        self.say(method(channel, name, **arguments))

    def ask(self, channel: int, name: str, /, **arguments: object) -> Said | None:
        """Says a method and hears one answer."""
        self.tell(channel, name, **arguments)
        return self.hear()

    # listening

    def hear(self, count: int = 1) -> Said | None:
        """Hears `count` things and gives the last; nothing once the connection has ended.

        Raises: Silence when the broker says less; the line `< a (silence)` is written.
        """
        said: Said | None = None
        for _ in range(count):
            said = self.listen()
            if said is None:
                return None
            self.record(said)
            self.answer(said)
        return said

    def listen(self) -> Said | None:
        """Reads one thing; None when the socket ends, which is written down."""
        if self.ended:
            return None
        try:
            return self.client.read()
        except SocketEnded:
            self.talk.write(f"< {self.name} closes the socket")
            self.ended = True
            return None
        except Silence:
            self.talk.write(f"< {self.name} (silence)")
            raise

    def record(self, said: Said) -> None:
        """Writes down what the broker said."""
        if said.method.name == "queue.declare-ok":
            self.talk.queues.add(said.method.text("queue"))
        self.talk.write(f"< {self.name}{said.channel} {show_said(said)}")

    def answer(self, said: Said) -> None:
        """Sends close-ok for a close; after connection.close hears the socket end."""
        if not self.answers_close:
            return
        if said.method.name == "channel.close":
            self.client.send(method(said.channel, "channel.close-ok"))
        if said.method.name == "connection.close":
            self.client.send(method(0, "connection.close-ok"))
            self.hear_end()

    def hear_end(self) -> None:
        """Hears everything up to the end of the socket."""
        while (said := self.listen()) is not None:
            self.record(said)

    def hear_bytes(self) -> None:
        """Hears bytes up to the end of the socket, which are no frames."""
        data = self.client.read_to_end()
        if data:
            self.talk.write(f"< {self.name} bytes {data.hex()}")
        self.talk.write(f"< {self.name} closes the socket")
        self.ended = True

    def quiet(self, channel: int = 1, queue: str | None = None) -> None:
        """Hears everything that comes before the answer to a later question; `(nothing)` when that is nothing.

        With `queue` the queue is asked first: what it sends to this channel leaves it before its answer does.
        """
        if self.ended:
            return
        heard = 0
        questions: list[tuple[str, dict[str, object]]] = [("channel.flow", {"active": True})]
        if queue is not None:
            questions.insert(0, ("queue.declare", {"queue": queue, "passive": True}))
        for name, arguments in questions:
            self.client.send(method(channel, name, **arguments))
            while (said := self.listen()) is not None:
                if said.channel == channel and said.method.name == f"{name}-ok":
                    break
                heard += 1
                self.record(said)
                self.answer(said)
                if said.channel == channel and said.method.name == "channel.close":
                    return
            if said is None:
                return
        if not heard:
            self.talk.write(f"< {self.name}{channel} (nothing)")

    def until_ready(self, queue: str, count: int, channel: int = 1) -> None:
        """Waits until `count` messages are ready in the queue; the questions and answers are not written down."""
        if self.ended:
            return
        seen: list[int] = []

        def reached() -> bool:
            seen.append(self.client.ask(channel, "queue.declare", queue=queue, passive=True).number("message_count"))
            return seen[-1] == count

        wait.until(reached, int(LISTEN_S * 1000), f"{count} messages in {queue}")

    def wait_ms(self, delay_ms: int) -> None:
        """Lets time pass, for rules whose subject is time; written down."""
        if not self.ended:
            self.talk.write(f"= {delay_ms} ms pass")
            started = time.monotonic()
            wait.until(lambda: time.monotonic() - started > delay_ms / 1000, delay_ms + 5000, "time passes")

    def until_gone(self, queue: str) -> None:
        """Waits until the queue is no more; nothing of it is written down.

        Asks by mandatory publishes on a connection of its own, which is no use of the queue: a passive declare would
        be.
        """
        if self.ended:
            return
        asking = WireClient(self.talk.host, self.talk.port, deadline_s=LISTEN_S)
        asking.handshake()
        asking.open_channel(1)
        asking.ask(1, "confirm.select")

        def gone() -> bool:
            asking.send(publish(1, "", queue, b"", mandatory=True))
            if asking.read().method.name == "basic.ack":
                return False
            asking.expect("basic.ack", 1)
            return True

        try:
            wait.until(gone, int(LISTEN_S * 1000), f"{queue} goes")
            asking.goodbye()
        finally:
            asking.close()

    def hear_to(self, name: str) -> None:
        """Hears everything up to this method."""
        while (said := self.hear()) is not None and said.method.name != name:
            pass

    def hear_all(self, *names: str) -> None:
        """Hears these methods in whichever order they come and writes them down in the order given here."""
        heard: dict[str, Said] = {}
        while len(heard) < len(names):
            said = self.listen()
            if said is None:
                break
            if said.method.name not in names or said.method.name in heard:
                self.record(said)
                self.answer(said)
                break
            heard[said.method.name] = said
        for name in names:
            if name in heard:
                self.record(heard[name])

    # leaving

    def shut(self) -> None:
        """Closes the connection in order, written down; after close-ok either side may close the socket first."""
        self.ask(0, "connection.close", reply_code=200, reply_text="bye")
        self.client.close()
        self.ended = True

    def drop(self) -> None:
        """Closes the socket without a word."""
        if not self.ended:
            self.talk.write(f"> {self.name} closes the socket")
            self.client.close()
            self.ended = True

    def leave(self) -> None:
        """Goes without being written down: in order when the connection is still open."""
        if not self.ended:
            self.client.deadline_s = 1.0
            with contextlib.suppress(WireError):
                self.client.goodbye()
        self.client.close()


class Sweeper:
    """Deletes what a conversation declared, over a connection of its own."""

    def __init__(self, talk: Talk) -> None:
        """Connects."""
        self.talk = talk
        self.client = WireClient(talk.host, talk.port, deadline_s=LISTEN_S)
        self.client.handshake()
        self.client.open_channel(1)

    def sweep(self) -> None:
        """Deletes queues (waiting for exclusive ones to go with their connection) and exchanges."""
        try:
            for queue in names(self.talk.queues):
                wait.until(partial(self.gone, "queue.delete", queue=queue), 10_000, f"{queue} can be deleted")
            for exchange in names(self.talk.exchanges):
                self.gone("exchange.delete", exchange=exchange)
            self.client.goodbye()
        finally:
            self.client.close()

    def gone(self, name: str, **arguments: object) -> bool:
        """Tries the delete; a refusal costs the channel, which is opened again."""
        self.client.send(method(1, name, **arguments))
        if self.client.read().method.name == f"{name}-ok":
            return True
        self.client.send(method(1, "channel.close-ok"))
        self.client.open_channel(1)
        return False


def play(each: Conversation, host: str, port: int) -> tuple[list[str], str]:
    """The transcript of the conversation against the broker at this address, and what went wrong while playing (empty
    when nothing)."""
    problem = ""
    talk = Talk(host, port)
    try:
        with talk:
            try:
                each.play(talk)
            except (WireError, AssertionError, OSError) as error:
                problem = f"{type(error).__name__}: {error}"
                talk.write(f"! {type(error).__name__}")
    except (WireError, AssertionError, OSError) as error:
        problem += f"\nwhile tidying up: {type(error).__name__}: {error}"
    return talk.lines, problem


__all__ = ["PROTOCOL_HEADER", "Conversation", "Departure", "Speaker", "Talk", "add", "conversation", "load", "play"]
