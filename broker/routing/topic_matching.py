"""A match of a topic exchange in steps: a key that takes little is matched at once, a larger one node by node.

The steps that nodes carry belong to whoever matches next, so the set that a word leads to is kept in dictionaries here; in many small
ones, because one that grows to a million nodes is copied more than once on its way, all in one step.
"""

from typing import Final, final

from broker.native import i64
from broker.routing.exchange import Exchange, Matching
from broker.routing.topic_trie import Node, Trie, split_key

NODE_COST: Final[i64] = 4
"""Units of a budget that a node takes: 60 ns when the trie is small, 400 when every node has to be fetched from memory."""
_PARTS: Final[i64] = 64


@final
class _Reached:
    """A set of nodes in the order they were entered."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.parts: list[dict[Node, None]] = [{} for _ in range(int(_PARTS))]

    def enter(self, node: Node | None) -> None:
        """Add a node and the # behind it, which may stand for no word."""
        while node is not None:
            part = self.parts[node.number % _PARTS]
            if node in part:
                return
            part[node] = None
            self.nodes.append(node)
            node = node.hash


@final
class TopicMatching(Matching):
    """The destinations of some routing keys."""

    def __init__(self, exchange: Exchange, trie: Trie, keys: list[str]) -> None:
        super().__init__()
        self._exchange = exchange
        self._trie = trie
        self._keys = keys
        self._key: i64 = 0
        """The next key."""
        self._walking: bool = False
        """Whether a key is matched node by node; the rest says how far that is."""
        self._words: list[str] = []
        self._word: i64 = 0
        self._active: list[Node] = []
        self._at: i64 = 0
        """The next node of the active set."""
        self._reached = _Reached()
        self._parts_left: list[dict[Node, None]] = []
        """Of the sets before, freed one by one."""

    def step(self, budget: i64) -> i64:
        """See ``Matching``."""
        fresh = True
        while budget > 0:
            if self._walking:
                budget = self._walk(budget)
            elif self._key >= len(self._keys):
                return budget
            else:
                key = self._keys[self._key]
                before = len(self.found)
                left = self._exchange.match(key, None, self.found, budget)
                if left < 0:
                    del self.found[before:]
                    if fresh:  # otherwise the next step's budget may suffice
                        self._walk_from(key)
                    return -1
                self._key += 1
                budget = left - 1
            fresh = False
        return -1

    def _walk_from(self, key: str) -> None:
        self._key += 1
        self._walking = True
        self._words = split_key(key)
        self._word = 0
        self._reached = _Reached()
        self._reached.enter(self._trie.root)
        self._next_set()

    def _next_set(self) -> None:
        self._active = self._reached.nodes
        self._at = 0
        self._parts_left += self._reached.parts
        self._reached = _Reached()

    def _walk(self, budget: i64) -> i64:
        """Some nodes of the active set, with the word that is due; returns what is left of the budget."""
        if self._parts_left:
            self._parts_left.pop()
        at = self._at
        end: i64 = len(self._active)
        room = budget // NODE_COST + 1
        if end - at > room:
            end = at + room
        budget -= NODE_COST * (end - at) + 1
        if self._word == len(self._words):
            budget -= self._collect(at, end)
        else:
            self._advance(at, end)
        self._at = end
        if end == len(self._active):
            if self._word == len(self._words) or not self._reached.nodes:
                self._walking = False
                self._active = []
            else:
                self._word += 1
                self._next_set()
        return budget

    def _advance(self, at: i64, end: i64) -> None:
        word = self._words[self._word]
        reached = self._reached
        active = self._active
        while at < end:
            node = active[at]
            at += 1
            if node.is_hash:
                reached.enter(node)
            if node.words is not None:
                reached.enter(node.words.get(word))
            reached.enter(node.star)

    def _collect(self, at: i64, end: i64) -> i64:
        """The key ends here: append the destinations; returns how many."""
        before: i64 = len(self.found)
        active = self._active
        while at < end:
            destinations = active[at].destinations
            at += 1
            if destinations is not None:
                self.found.extend(destinations)
        return len(self.found) - before
