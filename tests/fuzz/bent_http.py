"""Bent requests to the HTTP ports of a node: heads, paths, credentials, lengths, chunks and JSON bodies that are wrong
somewhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import re
import socket
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import quote

from tests.fuzz import mutate
from tests.fuzz.live_victims import LiveTally, reset

CLIENT_S: Final = 10.0
PATIENCE_S: Final = 0.15
"""How long the answer to a bent request is waited for: there may be none, because the node waits for more."""
MORE_S: Final = 0.02
"""How long more of it is waited for."""
GUEST: Final = b"Basic " + base64.b64encode(b"guest:guest")
STATUS: Final = re.compile(rb"HTTP/1\.1 (\d{3}) ")
UNAVAILABLE: Final = 503
"""The one status of the 500s that is no mistake: the health checks use it."""
QUEUES: Final = ("q", "r", "dead", "dq", "dp", "dl", "audit", "single", "s1", "nowhere")
EXCHANGES: Final = ("amq.default", "amq.topic", "amq.headers", "e", "f", "de", "dh", "dx", "nowhere")


@dataclass(frozen=True)
class Request:
    """A request as it should be."""

    method: str
    path: str
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = field(default=((b"Host", b"node"), (b"Authorization", GUEST)))

    def octets(self) -> bytes:
        """On the wire; a length is added where there is a body."""
        length = ((b"Content-Length", b"%d" % len(self.body)),) if self.body else ()
        lines = [name + b": " + value for name, value in (*self.headers, *length)]
        return b"\r\n".join(
            [f"{self.method} {self.path} HTTP/1.1".encode("latin-1", "replace"), *lines, b"", self.body]
        )


PUBLISH: Final[dict[str, object]] = {
    "properties": {
        "delivery_mode": 2,
        "headers": {"a": 1, "CC": ["q"], "x-death": [{"queue": "q"}]},
        "priority": 3,
        "expiration": "100",
    },
    "routing_key": "dq",
    "payload": "hello",
    "payload_encoding": "string",
}
GET: Final[dict[str, object]] = {"count": 3, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 50}


def lists() -> list[Request]:
    """Requests that read."""
    paths = [
        "overview",
        "nodes",
        "whoami",
        "vhosts",
        "vhosts/%2F",
        "connections",
        "channels",
        "consumers",
        "consumers/%2F",
        "policies",
        "exchanges",
        "exchanges/%2F",
        "queues",
        "queues/%2F",
        "bindings",
        "bindings/%2F",
        "health/checks/alarms",
        "leveret/data",
        "health/checks/local-alarms",
        "aliveness-test/%2F",
        "connections/nobody",
        "connections/nobody/channels",
        "queues?page=1&page_size=5&name=q&use_regex=false&pagination=true",
        "queues?sort=name&sort_reverse=true&columns=name,messages",
    ]
    paths += [f"queues/%2F/{name}" for name in QUEUES[:3]] + [f"queues/%2F/{name}/bindings" for name in QUEUES[:3]]
    paths += [f"exchanges/%2F/{name}/bindings/{side}" for name in EXCHANGES[:4] for side in ("source", "destination")]
    return [Request("GET", f"/api/{path}") for path in paths]


def changes() -> list[Request]:
    """Requests that do something."""
    found = [Request("POST", f"/api/exchanges/%2F/{name}/publish", json.dumps(PUBLISH).encode()) for name in EXCHANGES]
    found += [Request("POST", f"/api/queues/%2F/{name}/get", json.dumps(GET).encode()) for name in QUEUES]
    found += [Request("DELETE", f"/api/queues/%2F/{name}") for name in QUEUES]
    found += [Request("DELETE", f"/api/queues/%2F/{name}/contents") for name in QUEUES]
    found += [Request("DELETE", f"/api/exchanges/%2F/{name}?if-unused=true") for name in EXCHANGES]
    found += [Request("DELETE", "/api/connections/nobody"), Request("POST", "/api/leveret/data/confirm", b"{}")]
    return found


MANAGEMENT: Final = [*lists(), *changes()]
METRICS: Final = [Request("GET", "/metrics", headers=((b"Host", b"node"), (b"Accept", b"text/plain;version=0.0.4")))]
ODD: Final[tuple[object, ...]] = (
    None,
    True,
    -1,
    0,
    1 << 63,
    10**400,
    1.5e308,
    "",
    "x" * 300,
    "\ud800",
    "\x00",
    [],
    {},
    [[[]]],
    {"a": {"b": []}},
)
NO_OBJECTS: Final = (
    b"",
    b"null",
    b"[]",
    b"1",
    b'"x"',
    b"{",
    b"[" * 5000,
    b'{"a":' * 2000,
    b"NaN",
    b'{"count":1e999}',
    b"\xff\xfe{",
    b"\xef\xbb\xbf{}",
)
LENGTHS: Final = (
    b"0",
    b"1",
    b"-1",
    b"+5",
    b"5, 5",
    b"5,6",
    b"abc",
    b"0x10",
    b"",
    b" 5 ",
    b"20000001",
    b"99999999999999999999",
    b"5\r\nContent-Length: 6",
)
CREDENTIALS: Final = (
    b"",
    b"Basic",
    b"Basic ",
    b"Basic !!!",
    b"Bearer x",
    b"Digest a=b",
    b"Basic " + base64.b64encode(b"guest"),
    b"Basic " + base64.b64encode(b"guest:wrong"),
    b"Basic " + base64.b64encode(b"nobody:guest"),
    b"basic " + GUEST[6:],
    b"Basic " + base64.b64encode(b"\xff\xfe:\x00"),
    b"Basic " + GUEST[6:] + b"====",
    b"Basic " + base64.b64encode(b":" * 5000),
)
PATHS: Final = (
    "*",
    "/",
    "//",
    "/api",
    "/api/",
    "/api/queues/%2f/%00",
    "/api/queues/%2F/%ff%fe",
    "/api/queues/%/q",
    "/api/queues/%2F/q%2",
    "/api/../api/overview",
    "http://node/api/overview",
    "/api/queues/" + "a" * 9000,
    "/api/queues/%2F/" + "%C3%A4" * 200,
    "/api/queues?page=0",
    "/api/queues?page=x&page_size=-1",
    "/api/queues?page=1&page_size=5&use_regex=true&name=(",
    "/api/queues?page=1&page_size=5&use_regex=true&name=(a*)*b",
    "/api/queues?columns=,,.,a.b.c",
    "/api/queues?sort=nothing",
    "/api/queues?" + "a=b&" * 500,
    "/api/queues?%ff=%00",
    "/api/exchanges/%2F//publish",
    "/api/nodes/%20",
    "/metrics/",
    "/metrics?x=%",
)
HEADERS: Final = (
    (b"Expect", b"100-continue"),
    (b"Upgrade", b"websocket"),
    (b"Connection", b"close"),
    (b"Connection", b"upgrade"),
    (b"Host", b""),
    (b"Host", b"other"),
    (b"X-Long", b"y" * 17000),
    (b"Folded", b"a\r\n b"),
    (b"Na me", b"v"),
    (b"\xff", b"\xfe"),
    (b"Accept-Encoding", b"gzip"),
    (b"Transfer-Encoding", b"gzip, chunked"),
    (b"Transfer-Encoding", b"identity"),
    (b"If-None-Match", b"*"),
    (b"Range", b"bytes=0-0"),
    (b"X-Reason", b"r\x80"),
)
METHODS: Final = ("HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "CONNECT", "get", "G ET", "PRI", "X" * 300, "")


def chunked(data: bytes, chance: random.Random) -> bytes:
    """The body in chunks, most of them sound."""
    pieces = mutate.cut(data, chance)[:3000]
    lines = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]
    ending = chance.choice(
        (
            b"0\r\n\r\n",
            b"0\r\n\r\n",
            b"0\r\nTrailer: x\r\n\r\n",
            b"0",
            b"",
            b"-1\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"zz\r\n",
        )
    )
    if lines and chance.random() < 0.3:
        place = chance.randrange(len(lines))
        lines[place] = chance.choice(
            (b"%x;ext=1\r\nx\r\n" % 1, b"5\r\nx\r\n", b"1\r\nxxxx\r\n", b"\r\n", b"00000001\r\nx\r\n", b" 1\r\nx\r\n")
        )
    return b"".join(lines) + ending


def odd_json(body: bytes, chance: random.Random) -> bytes:
    """The JSON with values of other types, missing or doubled; or something else than an object."""
    try:
        value = json.loads(body)
    except ValueError:
        value = {}
    kind = chance.randrange(8)
    if kind == 0 or not value:
        return chance.choice(NO_OBJECTS)
    names = list(value)
    name = chance.choice(names)
    if kind == 1:
        del value[name]
    elif kind == 2 and isinstance(value.get("properties"), dict):
        property = chance.choice((*value["properties"], "timestamp", "reply_to", "user_id", "cluster_id", "mine"))
        value["properties"][property] = chance.choice(ODD)
    elif kind == 3 and isinstance(value.get("properties"), dict):
        value["properties"]["headers"] = {chance.choice(("x-death", "CC", "BCC", "a", "k" * 300)): chance.choice(ODD)}
    elif kind == 4:
        value["payload_encoding" if "payload" in value else "encoding"] = "base64"
    elif kind == 5:
        value["ackmode"] = chance.choice(("ack_requeue_false", "reject_requeue_true", "reject_requeue_false", "x"))
    else:
        value[name] = chance.choice(ODD)
    return json.dumps(value).encode()


def bend(request: Request, other: Request, chance: random.Random) -> bytes:
    """The request as octets, with one thing or two wrong."""
    kept = [pair for pair in request.headers if pair[0] != b"Authorization"]
    match chance.randrange(12):
        case 0:
            return mutate.octets(request.octets(), chance)
        case 1:
            body = request.body or b"12345"
            return (
                replace(
                    request, body=b"", headers=(*request.headers, (b"Content-Length", chance.choice(LENGTHS)))
                ).octets()
                + body
            )
        case 2:
            body = chunked(request.body or chance.randbytes(chance.randrange(3000)), chance)
            return (
                replace(request, body=b"", headers=(*request.headers, (b"Transfer-Encoding", b"chunked"))).octets()
                + body
            )
        case 3:
            return replace(request, headers=(*kept, (b"Authorization", chance.choice(CREDENTIALS)))).octets()
        case 4:
            return replace(request, path=chance.choice(PATHS)).octets()
        case 5:
            at = chance.randrange(len(request.path))
            path = (
                request.path[:at]
                + chance.choice(("%00", "%", "%ff", "/", "?", "#", "..", "\xe4", " ", "%2F", "&&"))
                + request.path[at:]
            )
            return replace(request, path=path).octets()
        case 6 | 7 | 8:
            return replace(request, body=odd_json(request.body, chance)).octets()
        case 9:
            more = tuple(chance.choice(HEADERS) for _ in range(chance.choice((1, 1, 2, 120))))
            return replace(request, headers=(*request.headers, *more)).octets()
        case 10:
            start = replace(request, method=chance.choice(METHODS)).octets()
            return start.replace(
                b"HTTP/1.1", chance.choice((b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"", b"HTTP/1.1", b"AMQP")), 1
            )
        case _:
            return mutate.splice(request.octets(), other.octets(), chance)


def about(name: str) -> list[Request]:
    """Requests about a client that may be connected: an operator looks at it and closes it."""
    path = f"/api/connections/{quote(name, safe='')}"
    return [Request("GET", path), Request("GET", f"{path}/channels"), Request("DELETE", path)]


async def run_client(
    host: str, ports: dict[str, int], chance: random.Random, tally: LiveTally, names: list[str]
) -> None:
    """One connection with one to three requests; `names` are connections of others. A node that is gone, or ends it, is
    no error.

    Raises: AssertionError if an answer has a status of the 500s
    """
    name = chance.choice(("management", "management", "management", "prometheus"))
    known = MANAGEMENT if name == "management" or chance.random() < 0.2 else METRICS
    bent_share = 0.8
    if names and known is MANAGEMENT and chance.random() < 0.3:
        known, bent_share = about(chance.choice(names)), 0.3
    data = b""
    for _ in range(chance.choice((1, 1, 2, 3))):
        request, other = chance.choice(known), chance.choice(MANAGEMENT)
        is_bent = chance.random() < bent_share
        data += bend(request, other, chance) if is_bent else request.octets()
        tally.requests += 1
    with socket.socket() as opened:
        opened.setblocking(False)
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLIENT_S):
                await asyncio.get_running_loop().sock_connect(opened, (host, ports[name]))
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                received = await _converse(opened, data, chance)
                _check(received, data, tally)
        if chance.random() < 0.2:
            reset(opened)


async def _converse(opened: socket.socket, data: bytes, chance: random.Random) -> bytes:
    """What the node answers; in some conversations nobody waits for it."""
    loop = asyncio.get_running_loop()
    pieces = mutate.cut(data, chance)
    if chance.random() < 0.2:
        pieces = pieces[: chance.randrange(len(pieces) + 1)]
    for piece in pieces:
        try:
            await loop.sock_sendall(opened, piece)
        except OSError:
            break
        if chance.random() < 0.01:
            await asyncio.sleep(0.002)
    received = b""
    if chance.random() < 0.1:
        return received
    with contextlib.suppress(OSError, TimeoutError):
        while more := await asyncio.wait_for(loop.sock_recv(opened, 65536), MORE_S if received else PATIENCE_S):
            received += more
    return received


def _check(received: bytes, data: bytes, tally: LiveTally) -> None:
    for status in STATUS.findall(received):
        tally.answers += 1
        assert int(status) < 500 or int(status) == UNAVAILABLE, (
            f"{status.decode()} for {data[:3000]!r}: {received[:2000]!r}"
        )
