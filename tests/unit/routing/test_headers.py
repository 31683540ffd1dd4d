"""The headers exchange (broker/routing/headers.py): x-match, what counts as equal, and a plain reading of the rules as
the oracle."""

import random
import struct

import pytest

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.routing.exchange import Binding
from broker.routing.headers import HeadersExchange
from broker.wire import table
from broker.wire.table import EMPTY, FieldTable
from tests.support.fakes import routed


def headers_exchange(bindings: dict[str, FieldTable]) -> HeadersExchange:
    source = HeadersExchange("headers", "h", True, False, False, EMPTY)
    for name, arguments in bindings.items():
        source.bind(Binding(source, Destination(name, False), "ignored", arguments))
    return source


def matched(source: HeadersExchange, headers: FieldTable | None) -> set[str]:
    found: list[Destination] = []
    source.match("some.key", routed(headers), found)
    return {destination.name for destination in found}


def raw(**fields: bytes) -> FieldTable:
    return FieldTable(table.join([(name.encode(), value) for name, value in fields.items()]))


ARGUMENTS: dict[str, FieldTable] = {
    "default": table.make({"a": 1, "b": "x"}),
    "all": table.make({"x-match": "all", "a": 1, "b": "x"}),
    "any": table.make({"x-match": "any", "a": 1, "b": "x"}),
    "present": table.make({"x-match": "all", "a": None}),
    "any present": table.make({"x-match": "any", "a": None, "c": 1}),
    "x ignored": table.make({"x-match": "all", "a": 1, "x-h": 1}),
    "x ignored any": table.make({"x-match": "any", "x-h": 1}),
    "x counts": table.make({"x-match": "all-with-x", "a": 1, "x-h": 1}),
    "x counts any": table.make({"x-match": "any-with-x", "x-h": 1}),
    "nothing asked": EMPTY,
    "nothing asked of all": table.make({"x-match": "all-with-x"}),
    "nothing asked of any": table.make({"x-match": "any"}),
}
ALWAYS = {"nothing asked", "nothing asked of all"}


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, set()),
        ({"a": 1}, {"any", "present", "any present", "x ignored"}),
        ({"a": 1, "b": "x"}, {"default", "all", "any", "present", "any present", "x ignored"}),
        ({"a": 1, "b": "y"}, {"any", "present", "any present", "x ignored"}),
        ({"a": 2, "b": "x"}, {"any", "present", "any present"}),
        ({"a": None}, {"present", "any present"}),
        ({"c": 1}, {"any present"}),
        ({"x-h": 1}, {"x counts any"}),
        ({"x-h": 1, "a": 1}, {"x counts any", "x counts", "any", "present", "any present", "x ignored"}),
        ({"x-h": 2, "a": 1}, {"any", "present", "any present", "x ignored"}),
        ({"x-match": "any"}, set()),
    ],
    ids=repr,
)
def test_x_match_decides_how_conditions_count(headers: dict[str, object], expected: set[str]) -> None:
    """RabbitMQ docs, Headers Exchange: all is the default, void asks for presence, x- arguments count only with
    -with-x."""
    assert matched(headers_exchange(ARGUMENTS), table.make(headers)) == expected | ALWAYS


def test_a_message_without_headers_meets_only_bindings_without_conditions() -> None:
    assert matched(headers_exchange(ARGUMENTS), None) == ALWAYS


VALUES = {
    "l1": b"l" + struct.pack(">q", 1),
    "I1": b"I" + struct.pack(">i", 1),
    "b1": b"b\x01",
    "B1": b"B\x01",
    "T1": b"T" + struct.pack(">Q", 1),
    "t1": b"t\x01",
    "t2": b"t\x02",
    "d1": b"d" + struct.pack(">d", 1),
    "f1": b"f" + struct.pack(">f", 1),
    "S1": b"S\x00\x00\x00\x011",
    "x1": b"x\x00\x00\x00\x011",
    "V": b"V",
    "D1": b"D\x00\x00\x00\x00\x01",
    "D10": b"D\x01\x00\x00\x00\x0a",
    "A": b"A\x00\x00\x00\x02B\x01",
    "A2": b"A\x00\x00\x00\x02b\x01",
    "F": b"F\x00\x00\x00\x04\x01aB\x01",
}
INTEGERS = {"l1", "I1", "b1", "B1", "T1"}


@pytest.mark.parametrize("name", VALUES)
def test_equal_means_equal_values_of_one_kind(name: str) -> None:
    """Every type against every type. RabbitMQ 3.13 compares exactly: an integer equals an integer of any width, never a
    bool or a float; the widths and the other classes are what 3.10 answered to the same messages (3.10 holds 1 and 1.0
    equal as well)."""
    classes = [INTEGERS, {"t1", "t2"}, {"d1", "f1"}, {"S1", "x1"}]
    alike = next((group for group in classes if name in group), {name})
    source = headers_exchange({other: raw(k=value) for other, value in VALUES.items()})
    assert matched(source, raw(k=VALUES[name])) == alike | {"V"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            b"S\x00\x00\x00\x03foo",
            'Invalid x-match field value <<"foo">>; expected all, any, all-with-x, or any-with-x',
        ),
        (b"S\x00\x00\x00\x00", "Invalid x-match field value <<>>; expected all, any, all-with-x, or any-with-x"),
        (
            b"S\x00\x00\x00\x03ANY",
            'Invalid x-match field value <<"ANY">>; expected all, any, all-with-x, or any-with-x',
        ),
        (
            b"S\x00\x00\x00\x02\xff\xfe",
            "Invalid x-match field value <<255,254>>; expected all, any, all-with-x, or any-with-x",
        ),
        (b"I\x00\x00\x00\x01", "Invalid x-match field type signedint (value 1); expected longstr"),
        (b"t\x01", "Invalid x-match field type bool (value true); expected longstr"),
        (b"V", "Invalid x-match field type void (value undefined); expected longstr"),
        (b"x\x00\x00\x00\x03any", 'Invalid x-match field type binary (value <<"any">>); expected longstr'),
        (
            b"A\x00\x00\x00\x05I\x00\x00\x00\x01",
            "Invalid x-match field type array (value [{signedint,1}]); expected longstr",
        ),
    ],
)
def test_a_bad_x_match_is_refused_in_rabbitmqs_words(value: bytes, text: str) -> None:
    """`rabbit_exchange_type_headers:validate_binding`; texts seen on 3.10 and the same in 3.13."""
    source = headers_exchange({})
    arguments = FieldTable(table.join([(b"a", b"B\x01"), (b"x-match", value)]))
    with pytest.raises(ChannelException) as raised:
        source.validate_binding(arguments)
    assert raised.value.code == PRECONDITION_FAILED
    assert raised.value.explanation == text


def test_a_good_x_match_or_none_is_accepted() -> None:
    source = headers_exchange({})
    for kind in ("all", "any", "all-with-x", "any-with-x"):
        source.validate_binding(table.make({"x-match": kind, "a": 1}))
    source.validate_binding(EMPTY)
    source.validate_binding(table.make({"a": 1}))
    headers_exchange({}).validate_binding(table.make({"x-matches": 5}))


def test_of_equal_header_names_the_last_counts() -> None:
    """RabbitMQ 3.13 `mc_amqpl:routing_headers` collects them into a map."""
    source = headers_exchange({"one": table.make({"k": 1}), "two": table.make({"k": 2})})
    assert matched(source, FieldTable(b"\x01kB\x01\x01kB\x02")) == {"two"}


def plain(arguments: FieldTable, headers: FieldTable) -> bool:
    """The oracle: one binding against one message, as the documentation says it."""
    kind = arguments.get_str("x-match", "all")
    wanted = [
        key for key in arguments.values if key != "x-match" and (kind.endswith("-with-x") or not key.startswith("x-"))
    ]
    results = [
        headers.has(key)
        and (
            arguments.values[key] is None
            or (headers.get(key), type(headers.get(key))) == (arguments.get(key), type(arguments.get(key)))
        )
        for key in wanted
    ]
    return any(results) if kind.startswith("any") else all(results)


@pytest.mark.parametrize("seed", range(40))
def test_the_index_finds_what_trying_every_binding_finds(seed: int) -> None:
    """Bindings come and go; the indexed conditions must never hide one or keep one that is gone."""
    pick = random.Random(seed)
    source = headers_exchange({})
    bound: dict[str, tuple[Destination, FieldTable]] = {}
    for step in range(80):
        if bound and pick.random() < 0.35:
            name = pick.choice(sorted(bound))
            target, arguments = bound.pop(name)
            assert source.unbind(target, "k", arguments)
        else:
            names = pick.sample(["a", "b", "c", "x-a", "x-b"], pick.randrange(4))
            values = {name: pick.choice([1, 2, "1", True, None, 1.0]) for name in names}
            kind = pick.choice(["", "all", "any", "all-with-x", "any-with-x"])
            arguments = table.make({**values, "x-match": kind} if kind else values)
            name = f"{step}"
            bound[name] = (Destination(name, False), arguments)
            assert source.bind(Binding(source, bound[name][0], "k", arguments))
        headers = table.make(
            {
                key: pick.choice([1, 2, "1", True, None, 1.0])
                for key in pick.sample(["a", "b", "c", "d", "x-a", "x-b"], 3)
            }
        )
        expected = {name for name, (_, arguments) in bound.items() if plain(arguments, headers)}
        assert matched(source, headers) == expected, f"seed {seed}, step {step}"
    for target, arguments in bound.values():
        assert len(source.remove_destination(target)) == 1, arguments
    assert matched(source, table.make({"a": 1, "b": 2})) == set()


def conditions(pick: random.Random, most: int) -> dict[str, object]:
    return {name: pick.choice([1, 2, None]) for name in pick.sample("abcdefgh", pick.randint(1, most))}


def meets(wanted: dict[str, object], any_of: bool, given: dict[str, object]) -> bool:
    """The oracle: each condition on its own."""
    met = [name in given and (value is None or given[name] == value) for name, value in wanted.items()]
    return any(met) if any_of else all(met)


@pytest.mark.parametrize("seed", range(20))
def test_rules_that_come_and_go_are_found_wherever_they_are_listed(seed: int) -> None:
    """A rule is listed under its rarest condition, which changes with the other bindings."""
    pick = random.Random(seed)
    source = headers_exchange({})
    bound: dict[str, tuple[dict[str, object], bool, Binding]] = {}
    for number in range(400):
        if bound and pick.random() < 0.4:
            _, _, binding = bound.pop(pick.choice(list(bound)))
            assert source.unbind(binding.destination, binding.key, binding.arguments)
        else:
            wanted, any_of = conditions(pick, 5), pick.random() < 0.3
            arguments = table.make({"x-match": "any" if any_of else "all", **wanted})
            binding = Binding(source, Destination(f"q{number}", False), "k", arguments)
            assert source.bind(binding)
            bound[f"q{number}"] = (wanted, any_of, binding)
        given = conditions(pick, 8)
        found: list[Destination] = []
        source.match("", routed(table.make(given)), found)
        assert sorted(each.name for each in found) == sorted(
            name for name, (wanted, any_of, _) in bound.items() if meets(wanted, any_of, given)
        ), f"seed {seed}"
    for _, _, binding in bound.values():
        assert source.unbind(binding.destination, binding.key, binding.arguments)
    assert source.listed() == [], "nothing is left of what was bound"


@pytest.mark.parametrize("where", ["first", "last"])
def test_a_match_looks_at_the_rarest_condition(where: str) -> None:
    """21 keys of which 20 are the same everywhere: no list is long, whatever the order of the keys."""
    common: dict[str, object] = {f"key-{place}": "value" for place in range(20)}
    source = headers_exchange(
        {
            f"q{number}": table.make({"z": number, **common} if where == "first" else {**common, "z": number})
            for number in range(500)
        }
    )
    assert max(source.listed()) <= 2
    assert matched(source, table.make({**common, "z": 77})) == {"q77"}


def test_lists_are_put_right_when_a_condition_becomes_common() -> None:
    """The first bindings have nothing to tell their conditions apart; later ones do, for them too."""
    early: dict[str, FieldTable] = {f"early{number}": table.make({"a": 1, "b": number}) for number in range(100)}
    late: dict[str, FieldTable] = {
        f"late{number}": table.make({"a": 1, "b": number % 100, "c": number}) for number in range(1000)
    }
    source = headers_exchange(early | late)
    assert max(source.listed()) <= 12


def test_an_any_binding_counts_once() -> None:
    """RabbitMQ docs, Headers Exchange: however many of its conditions hold."""
    fields: dict[str, object] = {f"k{place}": place for place in range(21)}
    source = headers_exchange({"q": table.make({"x-match": "any", **fields})})
    found: list[Destination] = []
    source.match("", routed(table.make(fields)), found)
    assert len(found) == 1


def test_a_binding_that_moves_during_a_match_in_steps_is_found() -> None:
    """From a list that the match has not reached yet to one that lies behind it."""
    source = headers_exchange({"wanted": table.make({"a": 1, "b": 1}), "other": table.make({"a": 1})})
    matching = source.matching([], routed(table.make({"a": 1, "b": 1})))
    assert matching.step(1) < 0
    for number in range(5):
        source.bind(Binding(source, Destination(f"more{number}", False), "", table.make({"b": 1, "c": number})))
    while matching.step(1) < 0:
        pass
    assert {"wanted", "other"} <= {destination.name for destination in matching.found}
    assert matching.step(10) == 10, "it is done, and says so again"


@pytest.mark.parametrize("seed", range(60))
def test_what_is_bound_all_the_time_is_found_whatever_comes_and_goes(seed: int) -> None:
    pick = random.Random(seed)
    source = headers_exchange({})
    lasting: dict[str, dict[str, object]] = {f"q{number}": conditions(pick, 4) for number in range(100)}
    for name, wanted in lasting.items():
        source.bind(Binding(source, Destination(name, False), "", table.make(wanted)))
    passing: list[Binding] = []
    for _ in range(3):
        given: dict[str, object] = {name: pick.randrange(2) for name in "abcdef"}
        found: set[str] = set()
        matchings = [source.matching([], routed(table.make(given))) for _ in range(2)]
        for matching in matchings:
            while matching.step(pick.randrange(10, 20)) < 0:
                for _ in range(pick.randrange(6)):
                    if passing and pick.random() < 0.4:
                        gone = passing.pop(pick.randrange(len(passing)))
                        source.unbind(gone.destination, gone.key, gone.arguments)
                    else:
                        passing.append(
                            Binding(source, Destination("passing", False), "", table.make(conditions(pick, 4)))
                        )
                        source.bind(passing[-1])
            found = {destination.name for destination in matching.found} - {"passing"}
            assert found == {name for name, wanted in lasting.items() if meets(wanted, False, given)}
    assert matched(source, table.make(given)) - {"passing"} == found
