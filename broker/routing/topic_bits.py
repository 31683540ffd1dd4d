"""The binding keys of a topic exchange, a bit for each place in each of them: for routing keys that take long to lead
through the trie.

A binding key with n words, not counting ``#``, has the places 0 to n; the routing key's words so far lead to place i if
the first i words of the binding key fit them. The next word leads from place i to i + 1 if word i + 1 is the same or
``*``, and back to place i if a ``#`` stands there. So one step with all binding keys at once is (Shift-And with self
loops: Navarro and Raffinot, Flexible Pattern Matching in Strings, chapter 4)

    active = active << 1 & onward[word] | active & staying

Whatever the binding keys look like that costs 0.5 us for a word and a block of BITS places, where a step through the
trie takes as long for five nodes. Binding keys of about one length share blocks, in which each has the same number of
bits. A block is made ready when a routing key asks for it, and again after one of its binding keys has changed: to bind
costs next to nothing.
"""

from typing import Final, final

from broker.native import i64
from broker.routing.topic_trie import Node, split_key

BITS: Final[i64] = 4096
"""Of a block."""
_SHIFTS: Final = 10
"""A binding key of 255 bytes has up to 256 words: 512 bits."""
_WORDS_MAX: Final = 64
"""So many words' masks are remembered in a block."""
_FEW: Final = 8
WORD_COST: Final[i64] = 9
"""Units of a budget for one word of a routing key and one block."""
PLACE_COST: Final[i64] = 3
"""Units for one place of a block that is made ready."""


@final
class Block:
    """Some binding keys with ``1 << shift`` bits each: the lowest stands for place 0 of the first."""

    def __init__(self, shift: i64) -> None:
        self.nodes: list[Node] = []
        """Where the binding keys end in the trie."""
        self.ready: bool = False
        self._shift = shift
        self._ends: list[int] = []
        """Of each binding key its last place."""
        self._first = 0
        self._last = 0
        self._staying = 0
        self._any_word = 0
        """Places that any word leads to."""
        self._places: dict[str, list[int]] = {}
        """Those that a word leads to besides."""
        self._onward: dict[str, int] = {}

    def make_ready(self) -> i64:
        """Work out the masks; returns how many places there are."""
        first = bytearray(int(BITS >> 3))
        last = bytearray(int(BITS >> 3))
        staying = bytearray(int(BITS >> 3))
        any_word = bytearray(int(BITS >> 3))
        self._ends = []
        self._places = {}
        self._onward = {}
        start: i64 = 0
        count: i64 = 0
        for node in self.nodes:
            place = start
            _set(first, place)
            for word in split_key(node.key):
                if word == "#":
                    _set(staying, place)
                    continue
                place += 1
                if word == "*":
                    _set(any_word, place)
                elif word in self._places:
                    self._places[word].append(int(place))
                else:
                    self._places[word] = [int(place)]
            _set(last, place)
            self._ends.append(int(place))
            count += place - start + 1
            start += i64(1) << self._shift
        self._first = int.from_bytes(first, "little")
        self._last = int.from_bytes(last, "little")
        self._staying = int.from_bytes(staying, "little")
        self._any_word = int.from_bytes(any_word, "little")
        self.ready = True
        return count

    def match(self, words: list[str], reached: list[Node]) -> None:
        """Append the ends of those binding keys that a routing key of these words fits."""
        staying = self._staying
        active = self._first
        for word in words:
            onward = self._onward.get(word)
            if onward is None:
                onward = self._remember(word)
            active = (active << 1) & onward | active & staying
            if not active:
                return
        active &= self._last
        if not active:
            return
        bits = active.to_bytes(int(BITS >> 3), "little")
        index: i64 = 0
        for end in self._ends:
            place: i64 = end
            if i64(bits[place >> 3]) >> (place & 7) & 1:
                reached.append(self.nodes[index])
            index += 1

    def _remember(self, word: str) -> int:
        """The places that ``word`` leads to."""
        found = self._any_word
        places = self._places.get(word)
        if places is not None and len(places) <= _FEW:
            for place in places:
                found |= 1 << place
        elif places is not None:
            bits = bytearray(found.to_bytes(int(BITS >> 3), "little"))
            for place in places:
                _set(bits, place)
            found = int.from_bytes(bits, "little")
        if len(self._onward) >= _WORDS_MAX:
            self._onward = {}
        self._onward[word] = found
        return found


def _set(bits: bytearray, place: i64) -> None:
    bits[place >> 3] |= 1 << (place & 7)


@final
class Patterns:
    """All binding keys of an exchange, in blocks; all blocks of one kind are full but the last.

    A binding key that goes leaves its place to the last one of its kind. So whoever looks at blocks over some time
    begins with the last: what is bound all the time may be seen twice then, but is not missed.
    """

    def __init__(self) -> None:
        self.blocks: list[list[Block]] = [[] for _ in range(_SHIFTS)]
        """By the number of bits that a binding key has."""

    def add(self, node: Node, key: str) -> None:
        """A binding key that ends at ``node``, where none has ended so far."""
        shift = _shift(key)
        blocks = self.blocks[shift]
        room = BITS >> shift
        if not blocks or len(blocks[-1].nodes) == room:
            blocks.append(Block(shift))
        block = blocks[-1]
        node.key = key
        node.place = (len(blocks) - 1) * room + len(block.nodes)
        block.nodes.append(node)
        block.ready = False

    def remove(self, node: Node) -> None:
        """No binding key ends at ``node`` any more."""
        shift = _shift(node.key)
        blocks = self.blocks[shift]
        room = BITS >> shift
        last = blocks[-1]
        moved = last.nodes.pop()
        last.ready = False
        if not last.nodes:
            blocks.pop()
        if moved is not node:
            place = node.place
            block = blocks[place // room]
            block.nodes[place % room] = moved
            block.ready = False
            moved.place = place


def _shift(key: str) -> i64:
    """How many bits the places of a binding key take, as a power of two."""
    count: i64 = 0
    for word in split_key(key):
        if word != "#":
            count += 1
    shift: i64 = 0
    while count >> shift:
        shift += 1
    return shift
