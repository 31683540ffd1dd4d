"""The headers exchange: binding arguments against message headers, the routing key does not count (AMQP 0-9-1
§3.1.3.4).

``x-match`` is all (the default), any, all-with-x or any-with-x; without -with-x, arguments starting with ``x-`` are no
conditions (RabbitMQ docs, Headers Exchange). A void argument asks for presence only, any other for an equal value; what
equal means is ``table.comparable``: RabbitMQ 3.13's exact comparison, apart from timestamps, which it scales on one
side only and so never matches. Conditions nobody can fail (all of none) match every message, conditions nobody can meet
(any of none) match nothing.

All bindings share their conditions. A match finds out once which conditions hold for the message and stamps them;
whether all conditions of a binding hold is then a look at their stamps. A binding that asks for all is listed under the
one condition that the fewest bindings share, so that a match looks only at bindings whose rarest condition holds; one
that asks for any under each of them.

Which condition is the rarest changes with the bindings, and then a binding moves from one list to another. A match in
steps may have left the one behind it and the other before it, so it looks at those that have moved meanwhile
(``Moves``) in the end.
"""

from typing import Final, final

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.native import i64
from broker.routing.exchange import UNLIMITED, Binding, Exchange, Listing, Matching, add_reference, drop_reference
from broker.routing.routed import Routed
from broker.wire import table
from broker.wire.field_types import LONGSTR, TYPE_NAMES, VOID, after_value
from broker.wire.table import FieldTable

X_MATCH: Final = "x-match"
_KINDS: Final = ("all", "any", "all-with-x", "any-with-x")
_PRESENT: Final = b""
"""In place of a value: the header must be there, whatever it is."""
_MOVES_MAX: Final = 256


@final
class Condition:
    """A header name with a comparable value, or with _PRESENT."""

    __slots__ = ("any_of", "listed", "name", "review", "shared", "stamp", "value")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.stamp: i64 = 0
        """The match for whose message it held last."""
        self.shared: i64 = 0
        """How many bindings ask for it among all their conditions."""
        self.listed: list[Rule] = []
        """Those of them of which it is the rarest condition, or was when that was last looked at."""
        self.review: i64 = 0
        """The next of them to look at."""
        self.any_of: dict[Rule, None] = {}
        """The bindings that ask for it or for another condition."""


@final
class Rule:
    """A binding's arguments made ready."""

    __slots__ = ("conditions", "destination", "home", "place", "stamp")

    def __init__(self, destination: Destination, conditions: list[Condition]) -> None:
        self.destination = destination
        self.conditions = conditions
        self.stamp: i64 = 0
        """The match that found it last."""
        self.home: Condition | None = None
        """The condition that lists it, for a rule that asks for all."""
        self.place: i64 = 0
        """Where in the list."""

    def holds(self, stamp: i64) -> bool:
        """Whether all conditions hold for the message of this match."""
        for condition in self.conditions:
            if condition.stamp != stamp:
                return False
        return True

    def rarest(self) -> Condition:
        """The condition that the fewest bindings share; the first of several."""
        best = self.conditions[0]
        for condition in self.conditions:
            if condition.shared < best.shared:
                best = condition
        return best

    def enlist(self) -> None:
        """Into the list of its rarest condition."""
        home = self.rarest()
        self.home = home
        self.place = len(home.listed)
        home.listed.append(self)

    def delist(self) -> None:
        """Out of its list, the last of which takes its place."""
        home = self.home
        assert home is not None
        last = home.listed.pop()
        if last is not self:
            home.listed[self.place] = last
            last.place = self.place
        self.home = None


@final
class Moves:
    """Rules that have moved, one after the other, and where it goes on. Only matches under way hold what is not the
    last of these."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.following: Moves | None = None


@final
class HeadersExchange(Exchange):
    """Routes to every destination whose binding arguments fit the headers."""

    def __init__(
        self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable
    ) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self.needs_message = True
        self._stamp: i64 = 0
        self._rules: dict[Binding, Rule] = {}
        self._always: dict[Destination, int] = {}
        """Destinations of rules without conditions that match everything."""
        self._conditions: dict[bytes, dict[bytes, Condition]] = {}
        """By header name and value: other headers need no look."""
        self._moves: Moves | None = None
        """While there are matches in steps."""
        self._matchings = 0

    def match(self, key: str, routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED) -> i64:
        """Append the destinations whose conditions the headers fulfil; the key does not count."""
        budget -= len(self._always)
        if budget < 0:
            return -1
        found.extend(self._always)
        if routed is None or not self._conditions:
            return budget
        held = self.holding(routed.headers)
        stamp = self.stamp(held)
        for condition in held:
            budget -= len(condition.any_of) + len(condition.listed)
            if budget < 0:
                return -1
            for rule in condition.any_of:
                if rule.stamp != stamp:
                    rule.stamp = stamp
                    found.append(rule.destination)
            for rule in condition.listed:
                budget -= len(rule.conditions) >> 4
                if rule.holds(stamp):
                    found.append(rule.destination)
        return budget if budget > 0 else 0

    def match_keys(
        self, keys: list[str], routed: Routed | None, found: list[Destination], budget: i64 = UNLIMITED
    ) -> i64:
        """Once for all keys: none of them counts."""
        return self.match("", routed, found, budget)

    def matching(self, keys: list[str], routed: Routed | None) -> Matching:
        """The same in steps."""
        return HeadersMatching(
            self, [] if routed is None else self.holding(routed.headers), Listing(self, self._always)
        )

    def holding(self, headers: FieldTable) -> list[Condition]:
        """The conditions that hold for these headers."""
        data = headers.raw
        last: dict[bytes, int] = {}
        at: i64 = 0
        end: i64 = len(data)
        while at < end:
            tag_at = at + 1 + i64(data[at])
            name = data[at + 1 : tag_at]
            if name in self._conditions:
                last[name] = int(tag_at)  # of equal names the last counts, as in RabbitMQ
            at = after_value(data, tag_at)
        held: list[Condition] = []
        for name, where in last.items():
            values = self._conditions[name]
            condition = values.get(table.comparable(data, where))
            if condition is not None:
                held.append(condition)
            condition = values.get(_PRESENT)
            if condition is not None:
                held.append(condition)
        return held

    def stamp(self, held: list[Condition]) -> i64:
        """Stamp what holds, with a number that no match had before."""
        self._stamp += 1
        stamp = self._stamp
        for condition in held:
            condition.stamp = stamp
        return stamp

    def watch(self) -> Moves:
        """A match in steps begins: what moves from now on is behind what stands in this now."""
        self._matchings += 1
        moves = self._moves
        if moves is None:
            moves = Moves()
            self._moves = moves
        return moves

    def unwatch(self) -> None:
        """It is over."""
        self._matchings -= 1
        if not self._matchings:
            self._moves = None

    def _review(self, condition: Condition) -> None:
        """Look at two of the rules it lists, in turn: whether another of their conditions is rarer by now.

        Two for each binding that comes or goes: so all have been looked at by the time that their number has doubled or
        halved.
        """
        for _ in range(2):
            if not condition.listed:
                return
            if condition.review >= len(condition.listed):
                condition.review = 0
            rule = condition.listed[condition.review]
            condition.review += 1
            if rule.rarest().shared < condition.shared:
                rule.delist()
                rule.enlist()
                self._note_move(rule)

    def _note_move(self, rule: Rule) -> None:
        moves = self._moves
        if moves is None:
            return
        if len(moves.rules) >= _MOVES_MAX:
            moves.following = Moves()
            moves = moves.following
            self._moves = moves
        moves.rules.append(rule)

    def validate_binding(self, arguments: FieldTable) -> None:
        """Raises: PRECONDITION_FAILED (406) if x-match is none of the four long strings."""
        at: i64 = arguments.find(b"x-match")
        if at < 0:
            return
        raw = arguments.raw
        if raw[at] != LONGSTR:
            text = (
                f"Invalid x-match field type {TYPE_NAMES[raw[at]]} (value {table.printed(raw, at)}); expected longstr"
            )
            raise ChannelException(PRECONDITION_FAILED, text)
        if arguments.get_str(X_MATCH) not in _KINDS:
            text = f"Invalid x-match field value {table.printed(raw, at)}; expected all, any, all-with-x, or any-with-x"
            raise ChannelException(PRECONDITION_FAILED, text)

    def _added(self, binding: Binding) -> None:
        any_of, wanted = _read(binding.arguments)
        rule = Rule(binding.destination, [self._condition(name, value) for name, value in wanted])
        self._rules[binding] = rule
        if any_of:
            for condition in rule.conditions:
                condition.any_of[rule] = None
        elif not wanted:
            add_reference(self._always, binding.destination)
        else:
            for condition in rule.conditions:
                condition.shared += 1
            rule.enlist()
            assert rule.home is not None
            self._review(rule.home)

    def _removed(self, binding: Binding) -> None:
        rule = self._rules.pop(binding)
        home = rule.home
        if home is not None:
            rule.delist()
            for condition in rule.conditions:
                condition.shared -= 1
            self._review(home)
        elif not rule.conditions and not _read(binding.arguments)[0]:
            drop_reference(self._always, rule.destination)
        for condition in rule.conditions:
            condition.any_of.pop(rule, None)
            if not condition.shared and not condition.any_of:
                self._forget(condition)

    def _condition(self, name: bytes, value: bytes) -> Condition:
        values = self._conditions.get(name)
        if values is None:
            values = {}
            self._conditions[name] = values
        condition = values.get(value)
        if condition is None:
            condition = Condition(name, value)
            values[value] = condition
        return condition

    def _forget(self, condition: Condition) -> None:
        values = self._conditions[condition.name]
        del values[condition.value]
        if not values:
            del self._conditions[condition.name]

    def listed(self) -> list[int]:
        """How many rules each condition lists: what a match has to look at where it holds."""
        return [len(condition.listed) for values in self._conditions.values() for condition in values.values()]


def _read(arguments: FieldTable) -> tuple[bool, list[tuple[bytes, bytes]]]:
    """Whether any condition suffices, and the conditions as (header name, comparable value or _PRESENT), each once."""
    kind = arguments.get_str(X_MATCH, "all")
    with_x = kind.endswith("-with-x")
    raw = arguments.raw
    wanted: dict[tuple[bytes, bytes], None] = {}
    for key, value in table.split(raw, 0, len(raw)):
        if key != b"x-match" and (with_x or not key.startswith(b"x-")):
            wanted[(key, _PRESENT if value[0] == VOID else table.comparable(value, 0))] = None
    return kind.startswith("any"), list(wanted)


@final
class HeadersMatching(Matching):
    """A match of a headers exchange in steps; the stamps belong to whoever matches next, so they are renewed in every
    step."""

    def __init__(self, exchange: HeadersExchange, held: list[Condition], always: Listing) -> None:
        super().__init__()
        self._always: Listing | None = always
        self._exchange = exchange
        self._held = held
        self._condition: i64 = 0
        """The next condition."""
        self._listed: list[Rule] = []
        """The rules of the one before that ask for all conditions."""
        self._any_of: list[Rule] = []
        """And those that ask for any."""
        self._at: i64 = 0
        self._seen: set[Rule] = set()
        self._moves: Moves | None = exchange.watch()
        """What has moved meanwhile, from the rule at index ``_moved`` on; None when all is done."""
        self._moved: i64 = len(self._moves.rules)

    def step(self, budget: i64) -> i64:
        """See ``Matching``."""
        if self._moves is None:
            return budget if budget > 0 else 0
        if self._always is not None and budget > 0:
            before: i64 = len(self.found)
            if self._always.take(self.found, budget):
                self._always = None
            budget -= len(self.found) - before
        stamp = self._exchange.stamp(self._held)
        while budget > 0:
            if self._at < len(self._any_of):
                budget -= 1
                self._look(self._any_of[self._at])
            elif self._at < len(self._any_of) + len(self._listed):
                rule = self._listed[self._at - len(self._any_of)]
                budget -= 1 + (len(rule.conditions) >> 4)
                if rule.holds(stamp):
                    self.found.append(rule.destination)
            elif self._condition < len(self._held):
                condition = self._held[self._condition]
                self._condition += 1
                self._any_of = list(condition.any_of)
                self._listed = list(condition.listed)
                self._at = 0
                budget -= 1
                continue
            else:
                return self._look_at_moved(stamp, budget)
            self._at += 1
        return -1

    def _look_at_moved(self, stamp: i64, budget: i64) -> i64:
        moves = self._moves
        while moves is not None:
            while self._moved < len(moves.rules):
                if budget <= 0:
                    return -1
                rule = moves.rules[self._moved]
                self._moved += 1
                budget -= 1
                if rule.home is not None and rule.holds(stamp):
                    self.found.append(rule.destination)
            if moves.following is not None:
                self._moved = 0
            moves = moves.following
            self._moves = moves
        self._exchange.unwatch()
        return budget if budget > 0 else 0

    def _look(self, rule: Rule) -> None:
        if rule not in self._seen:
            self._seen.add(rule)
            self.found.append(rule.destination)
