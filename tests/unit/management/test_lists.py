"""Pages, columns, order of lists. Rule: RabbitMQ docs, HTTP API (pagination, sorting); answers of RabbitMQ 3.10 to the
same queries."""

from __future__ import annotations

import asyncio
from typing import ClassVar

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from broker.management.lists import listed, projected, value_at
from tests.support.api import Api
from tests.support.memory import Broker

pytestmark = pytest.mark.asyncio


def with_queues(*names: str) -> Api:
    broker = Broker()
    client = broker.open()
    for name in names:
        client.ask("queue.declare", queue=name)
    return Api(broker)


async def test_without_page_all_rows_come_as_a_list_and_a_name_is_ignored() -> None:
    api = with_queues("a", "b")
    for query in ("", "?page_size=1", "?name=a"):
        assert [row["name"] for row in (await api.get(f"/api/queues{query}")).json] == ["a", "b"]


async def test_a_page_tells_how_many_there_are() -> None:
    api = with_queues("a", "b", "c")
    reply = (await api.get("/api/queues?page=2&page_size=2&columns=name")).json
    counts = {"filtered_count": 3, "item_count": 1, "page": 2, "page_count": 2, "page_size": 2, "total_count": 3}
    assert reply == {**counts, "items": [{"name": "c"}]}
    reply = (await api.get("/api/queues?page=3&page_size=2")).json
    assert (reply["items"], reply["item_count"], reply["page_count"]) == ([], 0, 2)
    reply = (await api.get("/api/queues?page=1")).json
    assert (reply["page_size"], reply["page_count"], len(reply["items"])) == (100, 1, 3)


async def test_an_empty_list_has_one_page() -> None:
    reply = (await Api(Broker()).get("/api/queues?page=1")).json
    assert (reply["items"], reply["page_count"], reply["total_count"]) == ([], 1, 0)


async def test_a_page_holds_names_with_the_text_in_any_case() -> None:
    api = with_queues("Orders", "orders.dead", "mail")
    reply = (await api.get("/api/queues?page=1&name=ORD&use_regex=false&pagination=true&columns=name")).json
    assert [row["name"] for row in reply["items"]] == ["Orders", "orders.dead"]
    assert (reply["filtered_count"], reply["total_count"]) == (2, 3)


async def test_regular_expressions_are_refused_and_plain_text_is_taken_as_it_is() -> None:
    """A pattern that is silently taken for text would show an empty list."""
    api = with_queues("abc", "def")
    assert [row["name"] for row in (await api.get("/api/queues?page=1&name=ab&use_regex=true")).json["items"]] == [
        "abc"
    ]
    reply = await api.get("/api/queues?page=1&name=%5Eab&use_regex=true")
    assert (reply.status, reply.json["error"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("query", "error", "reason"),
    [
        ("page=0", "invalid_pagination_parameters", "Invalid pagination parameters: page number 0, page size 100"),
        (
            "page=1&page_size=0",
            "invalid_pagination_parameters",
            "Invalid pagination parameters: page number 1, page size 0",
        ),
        (
            "page=1&page_size=501",
            "invalid_pagination_parameters",
            "Invalid pagination parameters: page number 1, page size 501",
        ),
        ("page=x", "bad_request", "Pagination parameters are invalid"),
        ("page=-1", "bad_request", "Pagination parameters are invalid"),
        ("page=1&page_size=1e3", "bad_request", "Pagination parameters are invalid"),
        ("page=99999999999999999999", "bad_request", "Pagination parameters are invalid"),
    ],
)
async def test_numbers_that_make_no_page(query: str, error: str, reason: str) -> None:
    reply = await with_queues("a").get(f"/api/queues?{query}")
    assert (reply.status, reply.json) == (400, {"error": error, "reason": reason})


async def test_rows_are_sorted_by_a_dotted_path() -> None:
    broker = Broker()
    client = broker.open()
    for name, length in (("a", 5), ("b", 50), ("c", None)):
        client.ask("queue.declare", queue=name, arguments={} if length is None else {"x-max-length": length})
    api = Api(broker)
    for query, order in (
        ("sort=arguments.x-max-length", "cab"),
        ("sort=arguments.x-max-length&sort_reverse=true", "bac"),
        ("sort=name&sort_reverse=true", "cba"),
        ("sort=no.such.thing", "abc"),
    ):
        rows = (await api.get(f"/api/queues?columns=name&{query}")).json
        assert "".join(row["name"] for row in rows) == order, query


async def test_columns_of_dotted_paths() -> None:
    row = {"name": "q", "arguments": {"x": 1, "y": 2}, "messages": 0}
    assert projected(row, ["name", "arguments.y"]) == {"name": "q", "arguments": {"y": 2}}
    assert projected(row, ["messages.rate", "none", "arguments"]) == {"arguments": {"x": 1, "y": 2}, "messages": {}} | {
        "messages": {}
    }
    assert (value_at(row, "arguments.x"), value_at(row, "arguments.z"), value_at(row, "name.x")) == (1, None, None)


async def test_a_long_list_is_whole() -> None:
    """Rows are made and encoded in slices; no row is lost or doubled where two slices meet."""
    names = [f"q{number:03}" for number in range(450)]
    rows = (await with_queues(*names).get("/api/queues?columns=name")).json
    assert [row["name"] for row in rows] == names


@pytest.mark.parametrize("reverse", [False, True])
async def test_a_long_list_is_in_order_where_slices_meet_and_equal_rows_stay_as_they_were(reverse: bool) -> None:
    names = [f"q{(number * 7) % 1300:04}" for number in range(1300)]
    broker = Broker()
    client = broker.open()
    for name in names:
        client.ask("queue.declare", queue=name, arguments={"x-max-length": int(name[1:]) // 100})
    api = Api(broker)
    query = f"columns=name&sort=arguments.x-max-length&sort_reverse={str(reverse).lower()}"
    expected = sorted(names, key=lambda name: int(name[1:]) // 100, reverse=reverse)
    assert [row["name"] for row in (await api.get(f"/api/queues?{query}")).json] == expected
    reply = (await api.get(f"/api/queues?{query}&page=3&page_size=400")).json
    assert [row["name"] for row in reply["items"]] == expected[800:1200]
    assert (reply["filtered_count"], reply["total_count"], reply["page_count"]) == (1300, 1300, 4)


class Row(dict[str, int]):
    """A row that tells when it is let go."""

    gone: ClassVar[int] = 0

    def __del__(self) -> None:
        Row.gone += 1


@pytest.mark.parametrize("query", ["", "sort=place", "sort=place&page=2&page_size=10", "page=2&page_size=10"])
async def test_nothing_is_done_with_many_rows_at_once(query: str) -> None:
    """The loop has its turn in between: while rows are made, put in order, encoded, and let go."""
    count = 20_000
    made = 0
    steps: list[int] = []

    def make(place: int) -> Row:
        nonlocal made
        made += 1
        return Row(place=(place * 7) % count)

    async def watch() -> None:
        before = 0
        while True:
            steps.append(made + Row.gone - before)
            before = made + Row.gone
            await asyncio.sleep(0)

    Row.gone = 0
    watcher = asyncio.create_task(watch())
    request = Request({"type": "http", "query_string": query.encode(), "headers": [], "method": "GET", "path": "/"})
    response = await listed(request, range(count), make)
    size = 0
    if isinstance(response, StreamingResponse):
        async for part in response.body_iterator:
            size += len(part)
    await asyncio.sleep(0)
    watcher.cancel()
    assert made == count
    assert bool(size) == ("page" not in query)
    assert Row.gone >= count - 10
    assert max(steps) <= 600
