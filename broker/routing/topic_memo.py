"""What earlier matches of a topic exchange found out: a deterministic automaton over the trie, built as keys ask for
it.

A state is a set of nodes; a word leads from one state to the next, and all words that stand in no binding key lead to
the same one. So 10,000 patterns of ``#`` and ``*``, where a word takes 1,000 steps through the trie, take one look-up
per word.

Sets of up to LARGE nodes are stepped through as quickly as they could be looked up, and are no states. What is
remembered is bounded (``SIZE_MAX``: 3.5 to 4.5 MiB an exchange, measured with random keys and patterns), is forgotten
as a whole when it is more or when a binding changes, and rests for some matches after it was filled without having been
of use, as by keys of random words.
"""

from typing import Final, final

from broker.destination import Destination
from broker.native import i64
from broker.routing.topic_trie import Node, Trie

LARGE: Final[i64] = 16
"""Sets of more nodes than this are remembered."""
SIZE_MAX: Final[i64] = 1 << 16
"""Most node memberships, transitions and destinations that are remembered, together."""
SET_MAX: Final[i64] = SIZE_MAX // 8
"""Larger sets are not remembered at all."""
COLLECT_MAX: Final[i64] = SIZE_MAX // 4
"""Bindings that are gone through in one go."""
REST: Final[i64] = 1024
"""So many matches do without the memo after it was of no use."""


@final
class State:
    """A set of nodes, with what is known of it."""

    __slots__ = ("destinations", "following", "nodes", "other")

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.following: dict[str, State] = {}
        """By a word of the vocabulary."""
        self.other: State | None = None
        """By any other word."""
        self.destinations: list[Destination] | None = None
        """Where a key that ends here goes, each once."""


@final
class Memo:
    """The states of one exchange."""

    def __init__(self, trie: Trie) -> None:
        self._vocabulary = trie.vocabulary
        self._states: dict[frozenset[Node], State] = {}
        self.size: i64 = 0
        self._followed: i64 = 0
        """Transitions that were there, since the memo was empty."""
        self._made: i64 = 0
        """Transitions that had to be made."""
        self.rest: i64 = 0
        """So many matches will do without; each takes one off."""

    def clear(self) -> None:
        """Forget everything: the bindings have changed, or it is too much."""
        if self.size:
            self._states = {}
            self.size = 0
            self._followed = 0
            self._made = 0

    def follow(self, state: State, word: str) -> State | None:
        """Where ``word`` leads, if that is known."""
        found = state.following.get(word) if word in self._vocabulary else state.other
        if found is not None:
            self._followed += 1
        return found

    def learn(self, state: State | None, word: str, reached: list[Node]) -> State | None:
        """Remember the set that ``word`` leads to from ``state``, or from a small set; what to go on from: None if the
        set itself."""
        after = self._state(reached)
        if after is None:
            return None
        if state is not None:
            self._made += 1
            if self._make_room(1):
                if word in self._vocabulary:
                    state.following[word] = after
                else:
                    state.other = after
        return after if len(reached) > LARGE else None

    def _state(self, nodes: list[Node]) -> State | None:
        """The state of a set; None if it is too large to remember, or nothing is for the time being."""
        added: i64 = len(nodes) + 1
        if self.rest or added > SET_MAX:
            return None
        identity = frozenset(nodes)
        found = self._states.get(identity)
        if found is None:
            if not self._make_room(added):
                return None
            found = State(nodes)
            self._states[identity] = found
        return found

    def destinations(self, state: State, limit: i64) -> list[Destination] | None:
        """Where a key goes that ends here, each once; None if there are more than ``limit``, or it takes too long to
        find out."""
        found = state.destinations
        if found is None:
            count: i64 = 0
            for node in state.nodes:
                if node.destinations is not None:
                    count += len(node.destinations)
            if count > COLLECT_MAX:
                return None
            bound: dict[Destination, None] = {}
            for node in state.nodes:
                if node.destinations is not None:
                    bound.update(dict.fromkeys(node.destinations))
            found = list(bound)
            if self._make_room(len(found)):
                state.destinations = found
        return found if len(found) <= limit else None

    def _make_room(self, added: i64) -> bool:
        """Whether so much more may be remembered; everything else may have been forgotten for it."""
        if self.size + added > SIZE_MAX:
            if self._followed < 2 * self._made:
                self.rest = REST
            self.clear()
            if self.rest or added > SIZE_MAX:
                return False
        self.size += added
        return True
