"""What the API answers: JSON, and RabbitMQ's bodies for errors: ``{"error": ..., "reason": ...}``."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

JSON: Final = "application/json"
_HEADERS: Final = {"Cache-Control": "no-cache"}
_ERRORS: Final = {
    400: "bad_request",
    401: "not_authorised",
    404: "Object Not Found",
    405: "method_not_allowed",
    408: "timeout",
}
_REASONS: Final = {404: "Not Found"}


class Failure(Exception):
    """The request ends here, with this status and body."""

    def __init__(self, status: int, error: str, reason: object) -> None:
        super().__init__(status, error, reason)
        self.status = status
        self.error = error
        self.reason = reason


def not_found() -> Failure:
    """404: there is no such thing (RabbitMQ's words)."""
    return Failure(404, _ERRORS[404], _REASONS[404])


def bad_request(reason: object) -> Failure:
    """400: the request makes no sense, or the broker refuses it."""
    return Failure(400, _ERRORS[400], reason)


def not_authorised(reason: str) -> Failure:
    """401: RabbitMQ's code for what others call forbidden, too."""
    return Failure(401, _ERRORS[401], reason)


def encode(value: object) -> bytes:
    """JSON. Texts that are not UTF-8, for which JSON has no form, are shown as RabbitMQ's management does it: their
    octets in base64."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return orjson.dumps(_clean(value))


def _printable(text: str) -> str:
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        pass
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # not from a client's octets: half of a surrogate pair
        octets = text.encode("utf-8", "surrogatepass")
    return f"Not UTF-8, base64 is: {base64.b64encode(octets).decode()}"


def _clean(value: object) -> object:
    if isinstance(value, str):
        return _printable(value)
    if isinstance(value, Mapping):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return value


def answer(value: object, status: int = 200) -> Response:
    """A JSON body."""
    return Response(encode(value), status, headers=_HEADERS, media_type=JSON)


def done() -> Response:
    """204: it is done, there is nothing to say."""
    return Response(status_code=204, headers=_HEADERS)


def failure(error: Failure) -> Response:
    """The response for a failure."""
    return answer({"error": error.error, "reason": error.reason}, error.status)


async def on_failure(request: Request, error: Exception) -> Response:
    """Answers what a resource raised."""
    assert isinstance(error, Failure)
    return failure(error)


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answers what the router or the listener raised: unknown paths, wrong methods, bodies that are too large."""
    assert isinstance(error, HTTPException)
    status = error.status_code
    shown = Failure(status, _ERRORS.get(status, "error"), _REASONS.get(status, error.detail))
    response = failure(shown)
    response.headers.update(error.headers or {})
    return response


async def on_crash(request: Request, error: Exception) -> Response:
    """Answers when a resource failed by a mistake of ours; the listener logs the traceback."""
    return answer({"error": "internal_server_error", "reason": "Internal Server Error"}, 500)
