"""broker/net/ports.py: one number on both loopback addresses."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from broker.net import ports
from broker.net.ports import LOCALHOST, Port, open_port

pytestmark = pytest.mark.asyncio


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")


def can_connect(host: str, number: int) -> bool:
    try:
        socket.create_connection((host, number), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


async def opened(host: str = LOCALHOST, number: int = 0) -> Port:
    return await open_port(asyncio.Protocol, host, number, 10)


@needs_ipv6
async def test_localhost_is_both_loopback_addresses() -> None:
    port = await opened()
    assert port.addresses() == ["127.0.0.1", "::1"]
    assert can_connect("127.0.0.1", port.number)
    assert can_connect("::1", port.number)
    port.close()
    assert not can_connect("::1", port.number)


async def test_any_other_host_is_what_it_says() -> None:
    port = await opened("127.0.0.1")
    assert port.addresses() == ["127.0.0.1"]
    port.close()


@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
async def test_without_ipv6_it_is_one(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    listen = ports._listen

    async def without(factory: ports.Factory, host: str, number: int, backlog: int) -> asyncio.Server:
        if host == "::1":
            raise OSError(code, "no IPv6")
        return await listen(factory, host, number, backlog)

    monkeypatch.setattr(ports, "_listen", without)
    port = await opened()
    assert port.addresses() == ["127.0.0.1"]
    port.close()


@needs_ipv6
async def test_a_port_that_is_taken_on_one_of_them_is_refused() -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(OSError, match="in use") as refused:
            await opened(number=number)
        assert refused.value.errno == errno.EADDRINUSE
        assert not can_connect("127.0.0.1", number), "the other address is given back"


@needs_ipv6
async def test_a_free_port_is_free_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    listen = ports._listen
    refused: list[int] = []

    async def taken_once(factory: ports.Factory, host: str, number: int, backlog: int) -> asyncio.Server:
        if host == "::1" and not refused:
            refused.append(number)
            raise OSError(errno.EADDRINUSE, "in use")
        return await listen(factory, host, number, backlog)

    monkeypatch.setattr(ports, "_listen", taken_once)
    port = await opened()
    assert len(refused) == 1
    assert port.addresses() == ["127.0.0.1", "::1"]
    port.close()
