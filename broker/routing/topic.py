"""The topic exchange: keys are words between dots, ``*`` in a binding key is one word, ``#`` any number of words, also none
(AMQP 0-9-1 §3.1.3.3; RabbitMQ docs, Topic Exchange).

The empty key has no words; any other has one more than it has dots, so ``a.`` is the word ``a`` and an empty word, which ``*``
matches (settled with RabbitMQ 3.10).

Binding keys form a trie. A routing key is matched one word at a time against the *set* of nodes that the words so far may lead to:
a node is in the set once, however many ways lead there, because it carries the number of the step that reached it last. A ``#`` node
stays in the set from word to word. So a match takes at most words x nodes steps whatever the binding keys look like, where following
each way on its own takes exponentially many for keys like ``#.a.#.a.#`` (tests/unit/routing/test_topic.py holds the figure).
Consecutive ``#`` mean the same as one and share its node.
"""

from typing import final

from broker.destination import Destination
from broker.native import i64
from broker.routing.exchange import Binding, Exchange, add_reference, drop_reference
from broker.wire.table import FieldTable


@final
class Node:
    """A place in the trie: the words behind it are a prefix of some binding key. No parent, so a dropped branch is freed at once."""

    __slots__ = ("destinations", "hash", "is_hash", "star", "step", "words")

    def __init__(self, is_hash: bool) -> None:
        self.words: dict[str, Node] | None = None
        self.star: Node | None = None
        self.hash: Node | None = None
        self.is_hash: bool = is_hash
        self.destinations: dict[Destination, int] | None = None
        """Where the bindings whose key ends here lead, with their number."""
        self.step: i64 = 0
        """The step of a match that reached this node last."""


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


def _enter(node: Node | None, step: i64, active: list[Node]) -> None:
    """Put a node into the active set of this step, and the # behind it, which may stand for no word."""
    while node is not None and node.step != step:
        node.step = step
        active.append(node)
        node = node.hash


def _child(node: Node, word: str) -> Node | None:
    if word == "*":
        return node.star
    if word == "#":
        return node.hash
    return None if node.words is None else node.words.get(word)


def _grow(node: Node, word: str) -> Node:
    child = Node(word == "#")
    if word == "*":
        node.star = child
    elif word == "#":
        node.hash = child
    else:
        if node.words is None:
            node.words = {}
        node.words[word] = child
    return child


def _cut(node: Node, word: str) -> None:
    if word == "*":
        node.star = None
    elif word == "#":
        node.hash = None
    elif node.words is not None:
        del node.words[word]
        if not node.words:
            node.words = None


@final
class TopicExchange(Exchange):
    """Routes to every destination bound with a pattern that the routing key fits."""

    def __init__(self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self._root = Node(False)
        self._step: i64 = 0

    def match(self, key: str, headers: FieldTable | None, found: list[Destination]) -> None:
        """Append the destinations of every binding key that the routing key fits."""
        step = self._step + 1
        active: list[Node] = []
        _enter(self._root, step, active)
        for word in split_key(key):
            step += 1
            reached: list[Node] = []
            for node in active:
                if node.is_hash:
                    _enter(node, step, reached)
                words = node.words
                if words is not None:
                    _enter(words.get(word), step, reached)
                if node.star is not None:
                    _enter(node.star, step, reached)
            if not reached:
                self._step = step
                return
            active = reached
        self._step = step
        for node in active:
            destinations = node.destinations
            if destinations is not None:
                found.extend(destinations)

    def _added(self, binding: Binding) -> None:
        node = self._root
        for word in _pattern(binding.key):
            child = _child(node, word)
            node = _grow(node, word) if child is None else child
        if node.destinations is None:
            node.destinations = {}
        add_reference(node.destinations, binding.destination)

    def _removed(self, binding: Binding) -> None:
        words = _pattern(binding.key)
        node = self._root
        path = [node]
        for word in words:
            child = _child(node, word)
            assert child is not None
            node = child
            path.append(node)
        destinations = node.destinations
        assert destinations is not None
        drop_reference(destinations, binding.destination)
        if not destinations:
            node.destinations = None
        while words and _is_bare(path.pop()):
            _cut(path[-1], words.pop())

    def node_count(self) -> int:
        """How many nodes the trie has besides its root: what its bindings cost in memory."""
        count = -1
        todo = [self._root]
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


def _is_bare(node: Node) -> bool:
    """Whether nothing ends at this node and nothing goes on behind it."""
    return node.destinations is None and node.words is None and node.star is None and node.hash is None
