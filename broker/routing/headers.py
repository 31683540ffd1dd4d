"""The headers exchange: binding arguments against message headers, the routing key does not count (AMQP 0-9-1 §3.1.3.4).

``x-match`` is all (the default), any, all-with-x or any-with-x; without -with-x, arguments starting with ``x-`` are no conditions
(RabbitMQ docs, Headers Exchange). A void argument asks for presence only, any other for an equal value; what equal means is
``table.comparable``: RabbitMQ 3.13's exact comparison, apart from timestamps, which it scales on one side only and so never matches.
Conditions nobody can fail (all of none) match every message, conditions nobody can meet (any of none) match nothing.

Bindings are indexed by one condition each (all) or by every condition (any), so that a match looks only at bindings of which one
condition holds, not at all of them.
"""

from typing import Final, final

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.native import i64
from broker.routing.exchange import Binding, Exchange
from broker.wire import table
from broker.wire.table import FieldTable

X_MATCH: Final = "x-match"
_KINDS: Final = ("all", "any", "all-with-x", "any-with-x")
_PRESENT: Final = b""
"""In place of a value: the header must be there, whatever it is."""


@final
class Rule:
    """A binding's arguments made ready: conditions as (header name, comparable value or _PRESENT)."""

    __slots__ = ("any_of", "conditions", "destination")

    def __init__(self, destination: Destination, arguments: FieldTable) -> None:
        kind = arguments.get_str(X_MATCH, "all")
        self.destination = destination
        self.any_of: bool = kind.startswith("any")
        self.conditions: list[tuple[bytes, bytes]] = []
        with_x = kind.endswith("-with-x")
        raw = arguments.raw
        for key, value in table.split(raw, 0, len(raw)):
            if key == b"x-match" or (key.startswith(b"x-") and not with_x):
                continue
            self.conditions.append((key, _PRESENT if value[0] == table.VOID else table.comparable(value, 0)))

    def indexed(self) -> list[tuple[bytes, bytes]]:
        """The conditions of which one must hold before the rule is worth a look."""
        return self.conditions if self.any_of else self.conditions[:1]

    def holds(self, present: dict[bytes, bytes]) -> bool:
        """Whether all conditions hold for these headers."""
        for key, wanted in self.conditions:
            value = present.get(key)
            if value is None or (wanted and value != wanted):
                return False
        return True


@final
class HeadersExchange(Exchange):
    """Routes to every destination whose binding arguments fit the headers."""

    def __init__(self, type_name: str, name: str, durable: bool, auto_delete: bool, internal: bool, arguments: FieldTable) -> None:
        super().__init__(type_name, name, durable, auto_delete, internal, arguments)
        self.needs_headers = True
        self._rules: dict[Binding, Rule] = {}
        self._always: dict[Rule, None] = {}
        """Rules without conditions that match everything."""
        self._names: dict[bytes, int] = {}
        """Header name -> number of conditions on it: other headers need no look."""
        self._index: dict[tuple[bytes, bytes], dict[Rule, None]] = {}
        """Condition -> the rules to look at when it holds."""

    def match(self, key: str, headers: FieldTable | None, found: list[Destination]) -> None:
        """Append the destinations whose conditions the headers fulfil; the key does not count."""
        found.extend([rule.destination for rule in self._always])
        if headers is None or not self._index:
            return
        data = headers.raw
        present: dict[bytes, bytes] = {}
        for name, value in table.split(data, 0, len(data)):
            if name in self._names:
                present[name] = table.comparable(value, 0)  # of equal names the last counts, as in RabbitMQ
        for name, value in present.items():
            self._match_rules(self._index.get((name, value)), present, found)
            self._match_rules(self._index.get((name, _PRESENT)), present, found)

    def match_keys(self, keys: list[str], headers: FieldTable | None, found: list[Destination]) -> None:
        """Once for all keys: none of them counts."""
        self.match("", headers, found)

    def _match_rules(self, rules: dict[Rule, None] | None, present: dict[bytes, bytes], found: list[Destination]) -> None:
        if rules is not None:
            found.extend([rule.destination for rule in rules if rule.any_of or rule.holds(present)])

    def validate_binding(self, arguments: FieldTable) -> None:
        """Raises: PRECONDITION_FAILED (406) if x-match is none of the four long strings."""
        at: i64 = arguments.find(b"x-match")
        if at < 0:
            return
        raw = arguments.raw
        if raw[at] != table.LONGSTR:
            text = f"Invalid x-match field type {table.TYPE_NAMES[raw[at]]} (value {table.printed(raw, at)}); expected longstr"
            raise ChannelException(PRECONDITION_FAILED, text)
        if arguments.get_str(X_MATCH) not in _KINDS:
            text = f"Invalid x-match field value {table.printed(raw, at)}; expected all, any, all-with-x, or any-with-x"
            raise ChannelException(PRECONDITION_FAILED, text)

    def _added(self, binding: Binding) -> None:
        rule = Rule(binding.destination, binding.arguments)
        self._rules[binding] = rule
        if not rule.conditions and not rule.any_of:
            self._always[rule] = None
        for name, _ in rule.conditions:
            self._names[name] = self._names.get(name, 0) + 1
        for condition in rule.indexed():
            rules = self._index.get(condition)
            if rules is None:
                rules = {}
                self._index[condition] = rules
            rules[rule] = None

    def _removed(self, binding: Binding) -> None:
        rule = self._rules.pop(binding)
        self._always.pop(rule, None)
        for name, _ in rule.conditions:
            count = self._names[name] - 1
            if count:
                self._names[name] = count
            else:
                del self._names[name]
        for condition in rule.indexed():
            rules = self._index.get(condition)
            if rules is not None:
                rules.pop(rule, None)
                if not rules:
                    del self._index[condition]
