"""Lists as clients ask for them: pages, names to look for, columns, order (RabbitMQ docs, HTTP API: pagination,
sorting, columns).

Rows are made, put in order, encoded and let go in slices, and messages flow between two slices: a list of 100,000
queues must not stop the broker.
"""

from __future__ import annotations

import asyncio
import heapq
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Final, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from broker.management.answers import JSON, Failure, answer, bad_request, encode

T = TypeVar("T")
Row = dict[str, Any]

PAGE_SIZE_DEFAULT: Final = 100
PAGE_SIZE_MAX: Final = 500
_SLICE: Final = 20
"""Rows that are made or encoded before the loop goes on with messages: less than a millisecond."""
_SORTED: Final = 200
"""So many are put in order at once."""
_PATTERN: Final = re.compile(r"[][\\^$.|?*+(){}]")


class Page:
    """The page a client asks for."""

    def __init__(self, number: int, size: int, name: str) -> None:
        self.number = number
        self.size = size
        self.name = name.lower()
        """Part of the names of the rows on it, in lower case; '' for all."""

    def holds(self, row: Row) -> bool:
        """Whether the row is among those that are paged."""
        return self.name in str(row.get("name", "")).lower()


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise bad_request("Pagination parameters are invalid")
    return int(text)


def page_in(query: QueryParams) -> Page | None:
    """The page in the query; None when all rows are wanted: without ``page`` RabbitMQ looks at nothing else.

    Raises: 400 if the numbers make no page, or the name is a regular expression.
    """
    if "page" not in query:
        return None
    number = _number(query["page"])
    size = _number(query["page_size"]) if "page_size" in query else PAGE_SIZE_DEFAULT
    if not number or not 0 < size <= PAGE_SIZE_MAX:
        text = f"Invalid pagination parameters: page number {number}, page size {size}"
        raise Failure(400, "invalid_pagination_parameters", text)
    name = query.get("name", "")
    if query.get("use_regex") == "true" and _PATTERN.search(name):
        raise bad_request("regular expressions are not supported yet: use_regex takes plain text only")
    return Page(number, size, name)


def value_at(row: Row, path: str) -> Any:
    """The value of a dotted path; None where there is none."""
    found: Any = row
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _order(value: Any) -> tuple[int, Any]:
    # values of different kinds have no order of their own: nothing, then numbers, then texts
    if value is None:
        return 0, 0
    return (1, value) if isinstance(value, bool | int | float) else (2, str(value))


def projected(row: Row, columns: list[str]) -> Row:
    """The row with these columns only; of a dotted path the inner value alone."""
    result: Row = {}
    for column in columns:
        *outer, last = column.split(".")
        source: Any = row
        target = result
        for key in outer:
            source = source.get(key) if isinstance(source, dict) else None
            target = target.setdefault(key, {}) if isinstance(target.get(key, {}), dict) else {}
        if isinstance(source, dict) and last in source:
            target[last] = source[last]
    return result


async def _in_order(rows: list[Row], path: str, reverse: bool) -> list[Row]:
    """The rows by the value of a dotted path; equal ones stay as they were."""

    def key(row: Row) -> tuple[int, Any]:
        return _order(value_at(row, path))

    parts: list[list[Row]] = []
    for start in range(0, len(rows), _SORTED):
        parts.append(sorted(rows[start : start + _SORTED], key=key, reverse=reverse))
        await asyncio.sleep(0)
    result: list[Row] = []
    for row in heapq.merge(*parts, key=key, reverse=reverse):
        result.append(row)
        if len(result) % _SORTED == 0:
            await asyncio.sleep(0)
    return result


async def _let_go(rows: list[Row]) -> None:
    """Nobody wants these rows any more: their memory is given back a slice at a time, too."""
    while rows:
        del rows[-_SORTED:]
        await asyncio.sleep(0)


async def listed(request: Request, things: Iterable[T], row_of: Callable[[T], Row]) -> Response:
    """The rows of these things, as the query wants them; made while the loop has its turn in between: iterate over
    copies.

    Raises: 400 as ``page_in`` does.
    """
    query = request.query_params
    page = page_in(query)
    rows: list[Row] = []
    total = 0
    sort = query.get("sort", "")
    first, end = (0, 0) if page is None else ((page.number - 1) * page.size, page.number * page.size)
    filtered = 0
    for thing in things:
        total += 1
        row = row_of(thing)
        if page is None or page.holds(row):
            filtered += 1
            if sort or page is None or first < filtered <= end:
                rows.append(row)
        if total % _SLICE == 0:
            await asyncio.sleep(0)
    if sort:
        rows = await _in_order(rows, sort, query.get("sort_reverse") == "true")
        if page is not None:
            others, rows = rows, rows[first:end]
            await _let_go(others)
    columns = [column for column in query.get("columns", "").split(",") if column]
    if columns:
        rows = [projected(row, columns) for row in rows]
    if page is None:
        return in_slices(rows)
    return answer(
        {
            "filtered_count": filtered,
            "item_count": len(rows),
            "items": rows,
            "page": page.number,
            "page_count": max(1, -(-filtered // page.size)),
            "page_size": page.size,
            "total_count": total,
        }
    )


def in_slices(rows: list[Row]) -> Response:
    """These rows as a list; they are the response's from now on."""
    if len(rows) <= _SLICE:
        return answer(rows)
    return StreamingResponse(_encoded(rows), headers={"Cache-Control": "no-cache"}, media_type=JSON)


async def _encoded(rows: list[Row]) -> AsyncIterator[bytes]:
    rows.reverse()
    opening = b"["
    while rows:
        part = rows[: -_SLICE - 1 : -1]
        del rows[-_SLICE:]
        yield opening + encode(part)[1:-1]
        opening = b","
        await asyncio.sleep(0)
    yield b"]"
