"""The topic exchange: keys are words between dots, ``*`` in a binding key is one word, ``#`` any number of words, also none
(AMQP 0-9-1 §3.1.3.3; RabbitMQ docs, Topic Exchange).

The empty key has no words; any other has one more than it has dots, so ``a.`` is the word ``a`` and an empty word, which ``*``
matches (settled with RabbitMQ 3.10).

Binding keys form a trie (topic_trie.py), through which a routing key goes word by word; what that found out where it is much is
remembered (topic_memo.py).
"""

from typing import final

from broker.destination import Destination
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Binding, Exchange, Matching
from broker.routing.topic_memo import LARGE, Memo, State
from broker.routing.topic_trie import Node, Trie, advance, enter, split_key
from broker.wire.table import FieldTable


@final
class TopicExchange(Exchange):
    """Routes to every destination bound with a pattern that the routing key fits."""

    def __init__(self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self._trie = Trie()
        self._step: i64 = 0
        """The last step of a match."""
        self._memo = Memo(self._trie)

    def match(self, key: str, headers: FieldTable | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append the destinations of every binding key that the routing key fits."""
        memo = self._memo
        if memo.rest:
            memo.rest -= 1
        step = self._step + 1
        active: list[Node] = []
        enter(self._trie.root, step, active)
        state: State | None = None
        for word in split_key(key):
            if state is not None:
                after = memo.follow(state, word)
                if after is not None:
                    active = after.nodes
                    state = after if len(active) > LARGE else None
                    continue
            budget -= len(active)
            if budget < 0:
                self._step = step
                return -1
            step += 1
            active = advance(active, word, step)
            if not active:
                self._step = step
                return budget
            if state is not None or len(active) > LARGE:
                state = memo.learn(state, word, active)
        self._step = step
        if state is not None:
            remembered = memo.destinations(state)
            if len(remembered) > budget:
                return -1
            found.extend(remembered)
            return budget - len(remembered)
        for node in active:
            destinations = node.destinations
            if destinations is not None:
                budget -= len(destinations)
                if budget < 0:
                    return -1
                found.extend(destinations)
        return budget

    def matching(self, keys: list[str], headers: FieldTable | None) -> Matching:
        """The same in steps."""
        return TopicMatching(self, keys)

    def root(self) -> Node:
        """Where every match begins."""
        return self._trie.root

    def _added(self, binding: Binding) -> None:
        self._memo.clear()
        self._trie.add(binding.key, binding.destination)

    def _removed(self, binding: Binding) -> None:
        self._memo.clear()
        self._trie.remove(binding.key, binding.destination)

    def node_count(self) -> int:
        """How many nodes the trie has besides its root: what its bindings cost in memory."""
        return self._trie.count()

    def memo_size(self) -> int:
        """How much of earlier matches is remembered; ``topic_memo.SIZE_MAX`` at most."""
        return int(self._memo.size)


def _enter_all(node: Node | None, reached: dict[Node, None]) -> None:
    while node is not None and node not in reached:
        reached[node] = None
        node = node.hash


@final
class TopicMatching(Matching):
    """A match of a topic exchange in steps: a key that takes few steps is matched at once, a larger one node by node.

    The steps of nodes belong to whoever matches next, so a set is a dictionary here.
    """

    def __init__(self, exchange: TopicExchange, keys: list[str]) -> None:
        super().__init__()
        self._exchange = exchange
        self._keys = keys
        self._key: i64 = 0
        """The next key."""
        self._words: list[str] = []
        """Of the key that is matched node by node; no words when there is none."""
        self._word: i64 = 0
        self._active: list[Node] = []
        self._at: i64 = 0
        """The next node of the active set."""
        self._reached: dict[Node, None] = {}

    def step(self, budget: i64) -> i64:
        """See ``Matching``."""
        while budget > 0:
            if self._words:
                budget = self._walk(budget)
                continue
            if self._key >= len(self._keys):
                return budget
            key = self._keys[self._key]
            self._key += 1
            before = len(self.found)
            left = self._exchange.match(key, None, self.found, budget)
            if left < 0:
                del self.found[before:]
                self._start(key)
                return -1
            budget = left - 1
        return -1

    def _start(self, key: str) -> None:
        self._words = split_key(key)
        self._word = 0
        self._reached = {}
        _enter_all(self._exchange.root(), self._reached)
        self._begin(list(self._reached))
        if not self._words:
            self._finish()

    def _begin(self, active: list[Node]) -> None:
        self._active = active
        self._at = 0
        self._reached = {}

    def _walk(self, budget: i64) -> i64:
        """Nodes of the active set, with the word that is due; returns what is left of the budget."""
        word = self._words[self._word]
        active = self._active
        at = self._at
        end: i64 = len(active)
        if end - at > budget:
            end = at + budget
        budget -= end - at
        while at < end:
            node = active[at]
            at += 1
            if node.is_hash:
                _enter_all(node, self._reached)
            if node.words is not None:
                _enter_all(node.words.get(word), self._reached)
            _enter_all(node.star, self._reached)
        self._at = at
        if at >= len(active):
            self._word += 1
            self._begin(list(self._reached))
            if self._word >= len(self._words) or not self._active:
                budget -= self._finish()
        return budget

    def _finish(self) -> i64:
        before: i64 = len(self.found)
        for node in self._active:
            if node.destinations is not None:
                self.found.extend(node.destinations)
        self._words = []
        return len(self.found) - before
