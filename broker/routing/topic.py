"""The topic exchange: keys are words between dots, ``*`` in a binding key is one word, ``#`` any number of words, also
none (AMQP 0-9-1 §3.1.3.3; RabbitMQ docs, Topic Exchange).

The empty key has no words; any other has one more than it has dots, so ``a.`` is the word ``a`` and an empty word,
which ``*`` matches (settled with RabbitMQ 3.10).

Binding keys form a trie (topic_trie.py), through which a routing key goes word by word; what that found out where it is
much is remembered (topic_memo.py); what takes long all the same is found in another way (topic_bits.py).
"""

from typing import Final, final

from broker.destination import Destination
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Binding, Exchange, Matching
from broker.routing.routed import Routed
from broker.routing.topic_bits import Patterns
from broker.routing.topic_matching import TopicMatching
from broker.routing.topic_memo import LARGE, Memo, State
from broker.routing.topic_trie import Node, Trie, advance, enter, split_key
from broker.wire.table import FieldTable

NODE_COST: Final[i64] = 4
"""Units of a budget that a node takes: 60 ns when the trie is small, 400 when every node has to be fetched from
memory."""


@final
class TopicExchange(Exchange):
    """Routes to every destination bound with a pattern that the routing key fits."""

    def __init__(
        self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self._trie = Trie()
        self._patterns = Patterns()
        self._step: i64 = 0
        """The last step of a match."""
        self._memo = Memo(self._trie)

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
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
            budget -= NODE_COST * len(active)
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
            remembered = memo.destinations(state, budget)
            if remembered is None:
                return -1
            found.extend(remembered)
            return budget - len(remembered)
        budget -= NODE_COST * len(active)
        for node in active:
            destinations = node.destinations
            if destinations is not None:
                budget -= len(destinations)
                if budget < 0:
                    return -1
                found.extend(destinations)
        return budget if budget > 0 else 0

    def matching(self, keys: list[str], routed: Routed | None) -> Matching:
        """The same in steps."""
        return TopicMatching(self, self._patterns, keys)

    def _added(self, binding: Binding) -> None:
        self._memo.clear()
        node = self._trie.add(binding.key, binding.destination)
        if node is not None:
            self._patterns.add(node, binding.key)

    def _removed(self, binding: Binding) -> None:
        self._memo.clear()
        node = self._trie.remove(binding.key, binding.destination)
        if node is not None:
            self._patterns.remove(node)

    def node_count(self) -> int:
        """How many nodes the trie has besides its root: what its bindings cost in memory."""
        return self._trie.count()

    def memo_size(self) -> int:
        """How much of earlier matches is remembered; ``topic_memo.SIZE_MAX`` at most."""
        return int(self._memo.size)
