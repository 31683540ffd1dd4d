"""`leveret data confirm`: one call of the management API, and what comes of it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from broker.__main__ import main


class Handler(BaseHTTPRequestHandler):
    """Answers as the API does."""

    def do_POST(self) -> None:
        assert self.path == "/api/leveret/data/confirm"
        given = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        status, body = (200, b'{"confirmed": 3}') if given == "admin:secret" else (401, b'{"error": "not_authorised"}')
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_was_confirmed_is_said(
    port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEVERET_PASSWORD", "secret")
    assert main(["data", "confirm", "--port", str(port), "--user", "admin"]) == 0
    assert capsys.readouterr().out == "3 losses confirmed\n"


def test_a_refusal_and_a_node_that_is_not_there_end_with_1(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "confirm", "--port", str(port)]) == 1
    assert "401" in capsys.readouterr().err
    assert main(["data", "confirm", "--port", "1"]) == 1
    assert "http://127.0.0.1:1/" in capsys.readouterr().err
