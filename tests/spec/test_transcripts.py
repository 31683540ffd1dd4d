"""Leveret answers as RabbitMQ does, frame for frame: every conversation is played and compared with its transcript.

tests/transcripts/README.md says what a transcript holds and how it is taken. Where Leveret departs on purpose, the
transcript says why and what it answers instead.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
from pamqp import base, commands
from pamqp import frame as pamqp_frame
from pamqp import header as pamqp_header

from tests.spec.conversations import AREAS, SLOW_AREAS, players
from tests.spec.record import SETTINGS, entry_of, read
from tests.spec.talk import Conversation, heard, load, play
from tests.support.node import Node
from tests.support.wire import METHODS, PROPERTIES, header, method, read_header, read_method, split_frames

CONVERSATIONS: Final = [each for area in AREAS for each in load(area)]
TRANSCRIPTS: Final = {name: entry for area in AREAS for name, entry in read(area).items()}


NO_STREAMS: Final = "Leveret has no streams yet"
NOT_YET: Final = {each.name: NO_STREAMS for each in CONVERSATIONS if each.name.startswith("stream:")}
"""Conversations that wait for a feature."""


def comparable(line: str) -> str:
    """A line without what no client can depend on.

    That is line breaks inside Erlang terms (RabbitMQ's printer puts them in by column), and how confirms are put
    together: which of them carry `multiple`, and the requeue bit of a basic.nack to a publisher, depend on timing or
    mean nothing.
    """
    line = re.sub(r"\\n +", "", line)
    if re.match(r"< \w+ basic\.n?ack ", line):
        line = line.replace(" multiple", "").replace(" requeue", "")
    return line


class Played:
    """The conversations played against one node; an area that waits a lot is played as a whole, many at once."""

    def __init__(self, node: Node) -> None:
        """Plays nothing yet."""
        self.node = node
        self.results: dict[str, tuple[list[str], str]] = {}

    def result(self, each: Conversation) -> tuple[list[str], str]:
        """The lines of the conversation and what went wrong while playing."""
        if each.name not in self.results:
            wanted = (
                [other for other in CONVERSATIONS if other.area == each.area] if each.area in SLOW_AREAS else [each]
            )
            with ThreadPoolExecutor(players(each.area)) as pool:
                for other, result in zip(wanted, pool.map(self.play, wanted), strict=True):
                    self.results[other.name] = result
        return self.results[each.name]

    def play(self, each: Conversation) -> tuple[list[str], str]:
        """Plays one conversation."""
        return play(each, self.node.host, self.node.port)


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    """A node with the settings of the transcripts."""
    with Node(settings=SETTINGS) as node:
        yield Played(node)


@pytest.mark.parametrize("each", CONVERSATIONS, ids=lambda each: f"{each.area}: {each.name}")
def test_answers_as_recorded(each: Conversation, played: Played) -> None:
    """The rule and its source stand in the conversation."""
    missing = NOT_YET.get(each.name)
    if missing:
        pytest.skip(missing)
    recorded = TRANSCRIPTS[each.name]
    lines, problem = played.result(each)
    said = [comparable(line) for line in heard(lines)]
    departure = recorded.get("leveret")
    if isinstance(departure, dict):
        expected = [comparable(str(line)) for line in departure["says"]]
    else:
        recorded_lines = recorded["lines"]
        assert isinstance(recorded_lines, list)
        expected = [comparable(line) for line in heard(recorded_lines)]
    if said != expected or problem:
        pytest.fail(explain(each, lines, said, expected, problem, played.node), pytrace=False)


def explain(
    each: Conversation, lines: list[str], said: list[str], expected: list[str], problem: str, node: Node
) -> str:
    """The failure text: rule, difference, the whole conversation, and the node's output when it has died."""
    parts = [
        f"{each.rule}\n({each.source})",
        *difflib.unified_diff(expected, said, "expected", "Leveret", lineterm="", n=1),
    ]
    parts += ["the conversation:", *(f"    {line}" for line in lines)]
    if each.leveret is not None:
        parts.append(f"Leveret departs from RabbitMQ here: {each.leveret.reason}")
    if problem:
        parts.append(problem)
    if not node.is_running():
        parts.append(f"the node has ended:\n{node.output()}")
    return "\n".join(parts)


def test_every_conversation_has_its_transcript() -> None:
    """A conversation without a recording, or changed after it was recorded, proves nothing."""
    for each in CONVERSATIONS:
        assert each.name in TRANSCRIPTS, f"{each.name} was never recorded: python -m tests.spec.record {each.area}"
        lines = TRANSCRIPTS[each.name]["lines"]
        assert isinstance(lines, list)
        assert TRANSCRIPTS[each.name] == entry_of(each, lines), (
            f"{each.name} was changed: python -m tests.spec.record {each.area}"
        )
    assert set(TRANSCRIPTS) == {each.name for each in CONVERSATIONS}


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"access.request", "access.request-ok", "basic.recover-async"}))
def test_the_tests_speak_amqp(name: str) -> None:
    """What the tests' own codec builds means the same to pamqp, and what pamqp builds means the same to it (AMQP 0-9-1
    §4.2.4)."""
    # Reserved arguments have one value only for pamqp; it takes "0" for out-of-band and channel-id.
    reserved: dict[str, object] = {
        "ticket": 0, "out_of_band": "0", "channel_id": b"0", "known_hosts": "", "capabilities": "", "cluster_id": "",
        "insist": False,
    }  # fmt: skip
    arguments: dict[str, object] = {}
    for number, (label, kind) in enumerate(METHODS[name].fields):
        samples = {
            "shortstr": f"s{number}",
            "longstr": f"l{number}".encode(),
            "table": {"a": "x"},
            "bit": number % 2 == 0,
        }
        arguments[label] = reserved.get(label, samples.get(kind, number))
    ours = method(1, name, **arguments)
    _, channel, theirs = pamqp_frame.unmarshal(ours)
    assert isinstance(theirs, base.Frame)
    spec = METHODS[name]
    assert (channel, theirs.frame_id, theirs.index) == (1, spec.method_id, spec.class_id << 16 | spec.method_id)
    assert pamqp_frame.marshal(theirs, 1) == ours
    assert read_method(split_frames(ours)[0].payload).name == name
    assert commands.INDEX_MAPPING[theirs.index] is type(theirs)


def test_the_tests_speak_properties() -> None:
    """A content header of the tests' own codec means the same to pamqp (AMQP 0-9-1 §4.2.6.1)."""
    texts: dict[str, object] = {name: name for name, kind in PROPERTIES if kind == "shortstr" and name != "cluster_id"}
    given = texts | {"headers": {"a": "b"}, "delivery_mode": 2, "priority": 3, "timestamp": 1234567890}
    ours = header(1, 5, given)
    _, _, theirs = pamqp_frame.unmarshal(ours)
    assert isinstance(theirs, pamqp_header.ContentHeader)
    assert theirs.properties.message_id == "message_id"
    assert theirs.properties.message_type == "type"
    assert pamqp_frame.marshal(theirs, 1) == ours
    size, properties = read_header(split_frames(ours)[0].payload)
    assert size == 5
    assert properties["correlation_id"] == "correlation_id"
