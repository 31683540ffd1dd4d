"""The HTTP port of broker/net/http.py: lazy, bounded, quiet. Rules: ARCHITECTURE and docs/protocol.md, "Limits"; RFC
9112."""

from __future__ import annotations

import asyncio
import functools
import logging
import subprocess
import sys
import threading
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from broker.net import http, http_uvicorn
from broker.net.admission import Admission
from broker.net.http import HttpListener

pytestmark = pytest.mark.asyncio

CHECKOUT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"


class Application:
    """An application with a page, a page that takes a body, and one that answers when the test says so."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.done = asyncio.Event()
        self.go_on = asyncio.Event()
        self.loads = 0

    async def hello(self, request: Request) -> Response:
        return PlainTextResponse("hello")

    async def length(self, request: Request) -> Response:
        self.asked.set()
        try:
            return PlainTextResponse(str(len(await request.body())))
        finally:
            self.done.set()

    async def slow(self, request: Request) -> Response:
        self.asked.set()
        await self.go_on.wait()
        return PlainTextResponse("at last")

    async def refused(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(error.detail, error.status_code)

    def load(self) -> ASGIApp:
        self.loads += 1
        routes = [Route("/", self.hello), Route("/length", self.length, methods=["POST"]), Route("/slow", self.slow)]
        return Starlette(routes=routes, exception_handlers={HTTPException: self.refused})


@asynccontextmanager
async def listening(load: Callable[[], ASGIApp]) -> AsyncIterator[HttpListener]:
    listener = HttpListener(load, Admission(1 << 20, lambda seconds, call: None))
    await listener.open(HOST, 0)
    try:
        yield listener
    finally:
        listener.close()
        await listener.wait_closed(1)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the response to a request."""
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next response."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        if headers.get("transfer-encoding") == "chunked" or "content-length" not in headers:
            return int(head[0].split()[1]), headers, await self.reader.read()
        return int(head[0].split()[1]), headers, await self.reader.readexactly(int(headers["content-length"]))

    async def is_closed(self) -> bool:
        """Waits until the server has closed the connection; whether it said nothing before."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


@asynccontextmanager
async def connected(listener: HttpListener) -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection(HOST, listener.port))
    try:
        yield client
    finally:
        await client.close()


def get(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: here", *headers, "", ""]).encode()


def post(path: str, body: bytes) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: here\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def chunked(path: str, *chunks: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


async def test_requests_are_answered_on_one_connection_one_after_the_other() -> None:
    application = Application()
    async with listening(application.load) as listener, connected(listener) as client:
        for request, content in [*[(get("/"), b"hello")] * 3, (post("/length", b"x" * 70_000), b"70000")]:
            status, headers, body = await client.ask(request)
            assert (status, body) == (200, content)
            assert headers.pop("date").endswith("GMT")
            assert headers == {"content-length": "5", "content-type": "text/plain; charset=utf-8"}


async def test_clients_that_come_while_the_code_is_imported_are_answered_too() -> None:
    """ARCHITECTURE: the code behind the listeners is imported by the first request, and only once."""
    application = Application()
    async with listening(application.load) as listener:
        async with connected(listener) as one, connected(listener) as two, connected(listener) as silent:
            first = await asyncio.gather(one.ask(get("/")), two.ask(post("/length", b"12345")))
            answers = [*first, await silent.ask(get("/"))]
            assert [(status, body) for status, _, body in answers] == [(200, b"hello"), (200, b"5"), (200, b"hello")]
        assert application.loads == 1


async def test_nothing_of_http_is_imported_before_the_first_client() -> None:
    """ARCHITECTURE: a node that nobody asks does not pay for uvicorn, starlette, prometheus_client and orjson."""
    code = """
import asyncio, sys
from broker.counters import Counters
from broker.clock import Clock
from broker.auth.users import Users
from broker.protocol.limits import Limits
from broker.protocol.server import Identity, Server
from broker.turn import Turn
from broker.management.listener import listen as listen_management
from broker.metrics.listener import listen as listen_metrics
from broker.net.admission import Admission
HEAVY = {"uvicorn", "starlette", "h11", "anyio", "prometheus_client", "orjson"}
async def main():
    clock = Clock()
    server = Server(Identity("a", "b", "c", "d", "e", "f@g"), Users(frozenset()), Limits(), Turn(clock), Counters())
    admission = Admission(1024, None)
    metrics = await listen_metrics(server, admission, "127.0.0.1", 0)
    management = await listen_management(server, admission, "127.0.0.1", 0, [])
    print(sorted(HEAVY & set(sys.modules)))
    for port in (metrics.port, management.port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\\r\\n\\r\\n")
        print((await reader.read()).split(b"\\r\\n")[0].decode())
        writer.close()
    print(sorted(HEAVY & set(sys.modules)) == sorted(HEAVY))
asyncio.run(main())
"""
    run = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
    done = await asyncio.to_thread(run, [sys.executable, "-c", code])
    assert done.stdout.splitlines() == ["[]", "HTTP/1.1 200 OK", "HTTP/1.1 401 Unauthorized", "True"], done.stderr


async def test_the_head_of_a_request_is_limited() -> None:
    """docs/protocol.md, "Limits": everything has a limit. 16 KiB of request line and headers."""
    async with listening(Application().load) as listener:
        async with connected(listener) as client:
            assert (await client.ask(get("/", "X-Long: " + "x" * 15_000)))[0] == 200
        async with connected(listener) as client:
            assert (await client.ask(get("/", "X-Long: " + "x" * http_uvicorn.HEAD_SIZE_MAX)))[0] == 400


@pytest.mark.parametrize("form", ["announced", "chunked"])
async def test_bodies_are_limited(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RabbitMQ docs, Management: management.http.max_body_size is 20,000,000 by default, what is larger is answered
    with 400."""
    assert http_uvicorn.BODY_SIZE_MAX == 20_000_000
    monkeypatch.setattr(http_uvicorn, "BODY_SIZE_MAX", 100_000)
    async with listening(Application().load) as listener:
        for size, status in ((100_000, 200), (100_001, 400)):
            body = b"x" * size
            request = post("/length", body) if form == "announced" else chunked("/length", body[:60_000], body[60_000:])
            async with connected(listener) as client:
                found, _, text = await client.ask(request)
                assert (found, text) == (
                    status,
                    b"100000" if status == 200 else b"Exceeded HTTP request body size limit",
                )


async def test_a_body_that_stalls_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_uvicorn, "BODY_TIMEOUT_S", 0.02)
    async with listening(Application().load) as listener, connected(listener) as client:
        status, headers, _ = await client.ask(post("/length", b"x" * 10)[:-1])
        assert (status, headers["content-type"]) == (408, "text/plain; charset=utf-8")


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: h"])
async def test_a_client_that_never_finishes_its_head_is_cut_off(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow on purpose: a connection that costs its client nothing must not be ours for ever."""
    monkeypatch.setattr(http_uvicorn, "FIRST_HEAD_TIMEOUT_S", 0.02)
    async with listening(Application().load) as listener, connected(listener) as client:
        client.writer.write(sent)
        assert await client.is_closed()
        # the same after a request that was answered
    monkeypatch.setattr(http_uvicorn, "HEAD_TIMEOUT_S", 0.2)
    async with listening(Application().load) as listener, connected(listener) as client:
        assert (await client.ask(get("/") + sent))[0] == 200
        assert await client.is_closed()


async def test_a_request_that_is_being_answered_has_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_uvicorn, "FIRST_HEAD_TIMEOUT_S", 0.02)
    application = Application()
    async with listening(application.load) as listener, connected(listener) as client:
        client.writer.write(get("/slow"))
        await application.asked.wait()
        asyncio.get_running_loop().call_later(0.06, application.go_on.set)
        assert (await client.answer())[2] == b"at last"


async def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/protocol.md, "Limits": one client that opens many must not use up the node's sockets."""
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    application = Application()
    async with listening(application.load) as listener, connected(listener) as one, connected(listener) as two:
        for each in (one, two):
            each.writer.write(get("/slow"))
            application.asked.clear()
            await application.asked.wait()
        async with connected(listener) as three:
            assert await three.is_closed()
        application.go_on.set()
        assert [(await each.answer())[2] for each in (one, two)] == [b"at last"] * 2


async def test_who_asks_nothing_makes_room_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 sockets that send a byte a second kept health checks out."""
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)
    application = Application()
    async with listening(application.load) as listener, connected(listener) as busy, connected(listener) as one:
        busy.writer.write(get("/slow"))
        await application.asked.wait()
        one.writer.write(b"GET / HT")
        async with connected(listener) as two, connected(listener) as three:
            assert await one.is_closed()
            assert (await three.ask(get("/")))[0] == 200
            async with connected(listener) as four:
                assert await two.is_closed()
                assert (await four.ask(get("/")))[0] == 200
                assert (await three.ask(get("/")))[0] == 200
        application.go_on.set()
        assert (await busy.answer())[2] == b"at last"


async def test_the_same_while_the_code_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    loading, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def load() -> ASGIApp:
        loop.call_soon_threadsafe(loading.set)
        go_on.wait(10)
        return Application().load()

    async with listening(load) as listener, connected(listener) as one, connected(listener) as two:
        two.writer.write(get("/"))
        await loading.wait()
        async with connected(listener) as three:
            assert await one.is_closed()
            go_on.set()
            assert (await two.answer())[0] == 200
            assert (await three.ask(get("/")))[0] == 200


async def test_an_answer_before_the_end_of_the_body_closes_the_connection() -> None:
    """Otherwise the rest of the body would have to be read, and thrown away: 300 MiB behind a 401 or 405."""
    async with listening(Application().load) as listener:
        async with connected(listener) as client:
            status, headers, _ = await client.ask(post("/", b"x" * 1_000_000)[:5000])
            assert (status, headers["connection"]) == (405, "close")
            assert await client.is_closed()
        async with connected(listener) as client:
            status, headers, _ = await client.ask(chunked("/", b"x" * 1000)[:-5])
            assert (status, headers["connection"]) == (405, "close")
        async with connected(listener) as client:
            status, headers, _ = await client.ask(post("/", b"x" * 5000))
            assert status == 405
            assert "connection" not in headers
            assert (await client.ask(get("/")))[0] == 200


async def test_a_body_in_very_many_tiny_chunks_is_refused() -> None:
    """A chunk of one byte costs as much as one of 4 KiB: 64 KiB a second of them would keep a core busy."""
    async with listening(Application().load) as listener:
        async with connected(listener) as client:
            assert (await client.ask(chunked("/length", *[b"x"] * http_uvicorn.PARTS_FREE)))[::2] == (200, b"1024")
            assert (await client.ask(chunked("/length", *[b"x" * 300] * 5000)))[::2] == (200, b"1500000")
        async with connected(listener) as client:
            assert (await client.ask(chunked("/length", *[b"x"] * 20_000)))[0] == 400
            assert await client.is_closed()


async def test_a_client_that_leaves_during_a_body_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    application = Application()
    async with listening(application.load) as listener:
        async with connected(listener) as client:
            client.writer.write(post("/length", b"x" * 1000)[:-1])
            await application.asked.wait()
        await application.done.wait()
        async with connected(listener) as client:
            assert (await client.ask(get("/")))[0] == 200
    assert not caplog.records


async def test_closing_lets_a_response_leave_and_closes_what_is_idle() -> None:
    application = Application()
    async with listening(application.load) as listener, connected(listener) as idle, connected(listener) as busy:
        assert (await idle.ask(get("/")))[0] == 200
        busy.writer.write(get("/slow"))
        await application.asked.wait()
        listener.close()
        assert await idle.is_closed()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await asyncio.open_connection(HOST, listener.port)
        application.go_on.set()
        status, _, body = await busy.answer()
        assert (status, body) == (200, b"at last")
        assert await busy.is_closed()
        await listener.wait_closed(5)
        assert listener.connections == 0


async def test_closing_does_not_wait_for_ever() -> None:
    application = Application()
    async with listening(application.load) as listener, connected(listener) as busy:
        busy.writer.write(get("/slow"))
        await application.asked.wait()
        listener.close()
        await listener.wait_closed(0.02)
        assert await busy.is_closed()
        application.go_on.set()


async def test_nonsense_is_answered_with_400_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A line for every byte a stranger sends would be a way to fill the disk."""
    before = list(logging.getLogger().handlers)
    async with listening(Application().load) as listener, connected(listener) as client:
        assert (await client.ask(b"\x16\x03\x01 nonsense\r\n\r\n"))[0] == 400
    async with listening(Application().load) as listener, connected(listener) as client:
        assert (await client.ask(get("/")))[0] == 200
    assert [record.getMessage() for record in caplog.records if record.name.startswith("uvicorn")] == []
    assert logging.getLogger().handlers == before, "uvicorn has set up logging"
    assert not logging.getLogger("uvicorn").handlers


async def test_code_that_cannot_be_imported_closes_the_client_and_is_tried_again() -> None:
    application = Application()

    def fail_once() -> ASGIApp:
        if not application.loads:
            application.loads += 1
            raise ImportError("broken installation")
        return application.load()

    async with listening(fail_once) as listener:
        async with connected(listener) as client:
            client.writer.write(get("/"))
            assert await client.is_closed()
        async with connected(listener) as client:
            assert (await client.ask(get("/")))[2] == b"hello"


async def test_the_installed_uvicorn_is_one_of_those_that_were_tried() -> None:
    """broker/net/http_uvicorn.py uses classes of uvicorn that are no public interface: the range is closed at both
    ends."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    requirement = next(Requirement(text) for text in project["dependencies"] if text.startswith("uvicorn"))
    assert {part.operator for part in requirement.specifier} == {">=", "<"}
    assert not requirement.extras
    assert requirement.specifier.contains(metadata.version("uvicorn"))


@pytest.mark.parametrize("state", ["not looked at", "no answer yet", "half an answer"])
async def test_nonsense_behind_a_request_that_is_being_answered_is_not_logged(
    state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """One answer leaves: the application's goes nowhere once the request has turned out to be broken."""
    application = Application()

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        application.asked.set()
        await application.go_on.wait()
        yield b"two"

    async def in_parts(request: Request) -> Response:
        return StreamingResponse(parts())

    pages = {"not looked at": application.hello, "no answer yet": application.slow, "half an answer": in_parts}
    async with listening(lambda: Starlette(routes=[Route("/", pages[state], methods=["POST"])])) as listener:
        async with connected(listener) as client:
            request = chunked("/", b"x")[:-5]
            if state != "not looked at":
                client.writer.write(request)
                await application.asked.wait()
                request = b""
            client.writer.write(request + b"no chunk\r\n")
            received = await client.reader.read()  # to its end
            application.go_on.set()
        assert received.startswith(b"HTTP/1.1 200 " if state == "half an answer" else b"HTTP/1.1 400 ")
        assert received.count(b"HTTP/1.1") == 1
        async with connected(listener) as other:
            assert (await other.ask(get("/nowhere")))[0] == 404
    assert not caplog.records


async def test_nonsense_behind_a_head_request_is_answered_without_a_body(caplog: pytest.LogCaptureFixture) -> None:
    application = Application()
    async with listening(application.load) as listener, connected(listener) as client:
        client.writer.write(b"HEAD /slow HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        await application.asked.wait()
        client.writer.write(b"more")
        received = await client.reader.read()  # to its end
        application.go_on.set()
        assert (received[:13], received[-4:]) == (b"HTTP/1.1 400 ", b"\r\n\r\n")
    assert not caplog.records
