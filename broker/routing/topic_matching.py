"""A match of a topic exchange in steps: a key that takes little is led through the trie, another one through blocks of
binding keys (topic_bits.py)."""

from typing import Final, final

from broker.native import i64
from broker.routing.exchange import Exchange, Listing, Matching
from broker.routing.topic_bits import PLACE_COST, WORD_COST, Patterns
from broker.routing.topic_trie import Node, split_key

_TRY: Final[i64] = 4000
"""So much is spent on a key before it is one that takes much."""
_FEW: Final[i64] = 64


@final
class TopicMatching(Matching):
    """The destinations of some routing keys."""

    def __init__(self, exchange: Exchange, patterns: Patterns, keys: list[str]) -> None:
        super().__init__()
        self._exchange = exchange
        self._patterns = patterns
        self._keys = keys
        self._key: i64 = 0
        """The next key."""
        self._words: list[str] = []
        """Of the key before it, while that goes through the blocks."""
        self._kind: i64 = -1
        """The kind of the blocks it goes through, the last one first."""
        self._block: i64 = 0
        """So many of them are left."""
        self._reached: list[Node] = []
        """Nodes whose destinations are still to be appended."""
        self._listing: Listing | None = None

    def step(self, budget: i64) -> i64:
        """See ``Matching``."""
        fresh = True
        while budget > 0:
            if self._listing is not None or self._reached:
                budget -= self._append(budget)
            elif self._kind >= 0:
                budget -= self._next_block()
            elif self._key >= len(self._keys):
                return budget
            elif budget < _TRY and not fresh:
                return -1  # what is left says nothing about the key
            else:
                budget -= self._next_key(budget if budget < _TRY else _TRY)
            fresh = False
        return -1

    def _next_key(self, budget: i64) -> i64:
        """Lead a key through the trie, if that is not too much; returns what it took."""
        key = self._keys[self._key]
        self._key += 1
        before = len(self.found)
        left = self._exchange.match(key, None, self.found, budget)
        if left >= 0:
            return budget - left + 1
        del self.found[before:]
        self._words = split_key(key)
        self._kind = len(self._patterns.blocks)
        self._block = 0
        return budget

    def _next_block(self) -> i64:
        """Match a block; returns what it took."""
        if self._block == 0:
            self._kind -= 1
            if self._kind >= 0:
                self._block = len(self._patterns.blocks[self._kind])
            return 1
        blocks = self._patterns.blocks[self._kind]
        self._block -= 1
        if self._block >= len(blocks):  # some have gone meanwhile
            self._block = len(blocks)
            return 1
        block = blocks[self._block]
        cost = WORD_COST * (len(self._words) + 1)
        if not block.ready:
            cost += PLACE_COST * block.make_ready()
        block.match(self._words, self._reached)
        return cost

    def _append(self, budget: i64) -> i64:
        """Append some of the destinations of the nodes that were reached; returns what it took."""
        listing = self._listing
        if listing is None:
            destinations = self._reached.pop().destinations
            if destinations is None:  # unbound meanwhile
                return 1
            if len(destinations) <= _FEW:
                self.found.extend(destinations)
                return len(destinations) + 1
            listing = Listing(self._exchange, destinations)
            self._listing = listing
        before: i64 = len(self.found)
        if listing.take(self.found, budget):
            self._listing = None
        return len(self.found) - before + 2
