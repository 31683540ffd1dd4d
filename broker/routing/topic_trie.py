"""The binding keys of a topic exchange as a trie, and one step through it: from the places that the words so far lead
to, one word on.

A routing key is matched one word at a time against the *set* of nodes that the words so far may lead to: a node is in
the set once, however many ways lead there, because it carries the number of the step that reached it last. A ``#`` node
stays in the set from word to word. So a match takes at most words x nodes steps whatever the binding keys look like,
where following each way on its own takes exponentially many for keys like ``#.a.#.a.#``
(tests/unit/routing/test_topic.py holds the figure). Consecutive ``#`` mean the same as one and share its node.
"""

from typing import final

from broker.destination import Destination
from broker.native import i64
from broker.routing.exchange import add_reference, drop_reference


@final
class Node:
    """A place in the trie: the words behind it are a prefix of some binding key. No parent, so a dropped branch is
    freed at once."""

    __slots__ = ("destinations", "hash", "is_hash", "key", "place", "star", "step", "words")

    def __init__(self, is_hash: bool) -> None:
        self.words: dict[str, Node] | None = None
        self.star: Node | None = None
        self.hash: Node | None = None
        self.is_hash: bool = is_hash
        self.destinations: dict[Destination, int] | None = None
        """Where the bindings whose key ends here lead, with their number."""
        self.step: i64 = 0
        """The step of a match that reached this node last."""
        self.key: str = ""
        """The binding key that ends here, or one that means the same."""
        self.place: i64 = 0
        """Of that key among all of its kind (topic_bits.py)."""


def split_key(key: str) -> list[str]:
    """The words of a routing or binding key."""
    return key.split(".") if key else []


def _pattern(key: str) -> list[str]:
    """The words of a binding key, runs of # made one."""
    words: list[str] = []
    for word in split_key(key):
        if word != "#" or not words or words[-1] != "#":
            words.append(word)
    return words


def enter(node: Node | None, step: i64, active: list[Node]) -> None:
    """Put a node into the active set of this step, and the # behind it, which may stand for no word."""
    while node is not None and node.step != step:
        node.step = step
        active.append(node)
        node = node.hash


def advance(active: list[Node], word: str, step: i64) -> list[Node]:
    """The set that ``word`` leads to from the set ``active``; ``step`` is a number that no step had before."""
    reached: list[Node] = []
    for node in active:
        if node.is_hash:
            enter(node, step, reached)
        words = node.words
        if words is not None:
            enter(words.get(word), step, reached)
        if node.star is not None:
            enter(node.star, step, reached)
    return reached


def _child(node: Node, word: str) -> Node | None:
    if word == "*":
        return node.star
    if word == "#":
        return node.hash
    return None if node.words is None else node.words.get(word)


def _is_bare(node: Node) -> bool:
    """Whether nothing ends at this node and nothing goes on behind it."""
    return node.destinations is None and node.words is None and node.star is None and node.hash is None


@final
class Trie:
    """The binding keys of one exchange."""

    def __init__(self) -> None:
        self.root = Node(False)
        self.vocabulary: dict[str, int] = {}
        """Word -> number of nodes that it leads on from: any other word in a routing key is met by # and * alone."""

    def add(self, key: str, destination: Destination) -> Node | None:
        """One more binding; the node where its key ends, if it is the first one there."""
        node = self.root
        for word in _pattern(key):
            child = _child(node, word)
            node = self._grow(node, word) if child is None else child
        destinations = node.destinations
        if destinations is None:
            node.destinations = {destination: 1}
            return node
        add_reference(destinations, destination)
        return None

    def remove(self, key: str, destination: Destination) -> Node | None:
        """One binding less; branches that lead nowhere any more are cut. The node where its key ended, if it was the
        last one there."""
        words = _pattern(key)
        node = self.root
        path = [node]
        for word in words:
            child = _child(node, word)
            assert child is not None
            node = child
            path.append(node)
        destinations = node.destinations
        assert destinations is not None
        drop_reference(destinations, destination)
        if destinations:
            return None
        node.destinations = None
        while words and _is_bare(path.pop()):
            self._cut(path[-1], words.pop())
        return node

    def _grow(self, node: Node, word: str) -> Node:
        child = Node(word == "#")
        if word == "*":
            node.star = child
        elif word == "#":
            node.hash = child
        else:
            if node.words is None:
                node.words = {}
            node.words[word] = child
            self.vocabulary[word] = self.vocabulary.get(word, 0) + 1
        return child

    def _cut(self, node: Node, word: str) -> None:
        if word == "*":
            node.star = None
        elif word == "#":
            node.hash = None
        elif node.words is not None:
            del node.words[word]
            if not node.words:
                node.words = None
            count = self.vocabulary[word] - 1
            if count:
                self.vocabulary[word] = count
            else:
                del self.vocabulary[word]

    def count(self) -> int:
        """How many nodes there are besides the root: what the bindings cost in memory."""
        count = -1
        todo = [self.root]
        while todo:
            node = todo.pop()
            count += 1
            if node.words is not None:
                todo.extend(node.words.values())
            if node.star is not None:
                todo.append(node.star)
            if node.hash is not None:
                todo.append(node.hash)
        return count
