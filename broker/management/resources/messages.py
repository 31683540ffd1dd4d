"""POST /api/exchanges/vhost/name/publish, POST /api/queues/vhost/name/get: messages by hand (RabbitMQ docs, HTTP API).

For people and scripts: a poll that gets messages over HTTP takes them from consumers and changes their order.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from pamqp import commands
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.errors import ACCESS_REFUSED, NOT_FOUND
from broker.management.answers import Failure, answer, bad_request, not_authorised
from broker.management.lists import in_slices
from broker.management.loopback import Answer, Loopback, Refused
from broker.management.present import properties, properties_from
from broker.management.request import DEFAULT_EXCHANGE, body_of, name_in, server_of, user_of, vhost_of
from broker.wire import spec
from broker.wire.methods import method_frame

ACK_MODES: Final = ("ack_requeue_true", "ack_requeue_false", "reject_requeue_true", "reject_requeue_false")
COUNT_MAX: Final = 10_000
"""Messages in one response."""
SIZE_MAX: Final = 8 << 20
"""No further message is fetched for a response whose payloads are that large."""
_KEY_MAX: Final = 255


def _payload(encoding: object, payload: object) -> bytes:
    if not isinstance(payload, str):
        raise bad_request("payload_not_string")
    if encoding == "string":
        return payload.encode()
    if encoding != "base64":
        raise bad_request(["unsupported_encoding", encoding])
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise bad_request(["not_base64", payload]) from None


def _name(value: str) -> str:
    if len(value.encode("utf-8", "surrogateescape")) > _KEY_MAX:
        raise bad_request(f"names have at most {_KEY_MAX} bytes")
    return value


def _failure(refused: Refused) -> Failure:
    if refused.code == ACCESS_REFUSED:
        return not_authorised(refused.text)
    return bad_request(f"{refused.code} {refused.text}")


async def publish(request: Request) -> Response:
    """POST /api/exchanges/vhost/name/publish: whether the message reached a queue.

    Raises: 401 without permission, 400 with the broker's reply code and text if it refuses the message.
    """
    body = await body_of(request, "routing_key", "properties", "payload", "payload_encoding")
    vhost = vhost_of(request)
    exchange = name_in(request, "name")
    described = properties_from(body["properties"])
    payload = _payload(body["payload_encoding"], body["payload"])
    key = body["routing_key"]
    if not isinstance(key, str):
        raise bad_request(["not_string", "routing_key"])
    async with Loopback(server_of(request), vhost, user_of(request).name) as client:
        try:
            routed, accepted = await client.publish(
                "" if exchange == DEFAULT_EXCHANGE else _name(exchange), _name(key), described, payload
            )
        except Refused as refused:
            raise _failure(refused) from None
    if not accepted:
        raise bad_request("rejected")
    return answer({"routed": routed})


def _number(name: str, value: object) -> int:
    # RabbitMQ's own tools send numbers as texts
    if isinstance(value, str) and value.removeprefix("-").isdigit() and value.isascii() and len(value) < 10:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(["not_integer", value])
    return value


class _Wanted:
    """What a client wants to get."""

    def __init__(self, body: dict[str, object]) -> None:
        mode = body["ackmode"]
        encoding = body["encoding"]
        if mode not in ACK_MODES:
            raise bad_request(f"ackmode must be one of {', '.join(ACK_MODES)}")
        if encoding not in ("auto", "base64"):
            raise bad_request("Unsupported encoding. Please use auto or base64.")
        count = _number("count", body["count"])
        self.count = COUNT_MAX if count < 0 else min(count, COUNT_MAX)
        self.truncate = _number("truncate", body["truncate"]) if "truncate" in body else None
        self.mode = str(mode)
        self.plain = encoding == "auto"

    def row(self, got: Answer) -> dict[str, Any]:
        """One message."""
        fields = got.fields
        assert isinstance(fields, commands.Basic.GetOk)
        shown = got.body if self.truncate is None else got.body[: max(0, self.truncate)]
        payload, encoding = base64.b64encode(shown).decode(), "base64"
        if self.plain:
            try:
                payload, encoding = shown.decode(), "string"
            except UnicodeDecodeError:
                pass
        return {
            "payload_bytes": len(got.body),
            "redelivered": fields.redelivered,
            "exchange": fields.exchange,
            "routing_key": fields.routing_key,
            "message_count": fields.message_count,
            "properties": properties(got.properties),
            "payload": payload,
            "payload_encoding": encoding,
        }

    def settlement(self) -> bytes:
        """The frame that settles everything that was fetched."""
        if self.mode == "ack_requeue_false":
            return method_frame(1, spec.BASIC_ACK, [("longlong", 0), ("octet", 1)])
        requeue = self.mode.endswith("_true")
        return method_frame(1, spec.BASIC_NACK, [("longlong", 0), ("octet", 1 | requeue << 1)])


async def get_messages(request: Request) -> Response:
    """POST /api/queues/vhost/name/get: messages from the head of the queue, settled as ``ackmode`` says when all are
    fetched.

    Raises: 404 if there is no such queue, 400 with the broker's reply code and text if it refuses.
    """
    wanted = _Wanted(await body_of(request, "ackmode", "count", "encoding"))
    vhost = vhost_of(request)
    queue = _name(name_in(request, "name"))
    rows: list[dict[str, Any]] = []
    size = 0
    async with Loopback(server_of(request), vhost, user_of(request).name) as client:
        try:
            while len(rows) < wanted.count and size < SIZE_MAX:
                got = await client.call(spec.BASIC_GET, ("short", 0), ("shortstr", queue), ("octet", 0))
                if got.index != spec.BASIC_GET_OK:
                    break
                rows.append(wanted.row(got))
                size += len(rows[-1]["payload"])
        except Refused as refused:
            if refused.code == NOT_FOUND:
                raise Failure(404, "not_found", refused.text) from None
            raise _failure(refused) from None
        if rows:
            client.tell(wanted.settlement())
    return in_slices(rows)


ROUTES: Final = [
    Route("/api/exchanges/{vhost}/{name}/publish", publish, methods=["POST"]),
    Route("/api/queues/{vhost}/{name}/get", get_messages, methods=["POST"]),
]
