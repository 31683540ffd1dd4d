"""The channels of one connection by their numbers (broker/protocol/channel_table.py); what clients hear of it is in
tests/spec/test_channel.py."""

from __future__ import annotations

import pytest

from broker.errors import NOT_ALLOWED, ConnectionException
from broker.protocol.channel_table import ChannelTable
from broker.protocol.session import Session
from tests.support.memory import Broker


def made() -> tuple[Broker, ChannelTable, Session]:
    broker = Broker()
    return broker, ChannelTable(broker.server), broker.connect().opened.session


def test_a_channel_is_found_by_its_number_and_is_the_last_one() -> None:
    _, table, session = made()
    one, two = table.open(1, session, 0), table.open(65535, session, 0)
    assert table.last is two
    assert table.find(1) is one
    assert table.last is one
    assert (len(table), table[65535], list(table.values())) == (2, two, [one, two])


def test_a_number_that_is_not_open() -> None:
    _, table, session = made()
    table.open(1, session, 0)
    assert table.find(2) is None
    assert table.last is None


def test_one_that_is_forgotten_is_not_the_last_one_any_more() -> None:
    """Otherwise the next frame with its number would go to a channel that has ended."""
    broker, table, session = made()
    one, two = table.open(1, session, 0), table.open(2, session, 0)
    table.forget(one)
    assert table.last is two
    table.forget(two)
    assert table.last is None
    assert table.find(2) is None
    assert (len(table), broker.server.channels_open) == (0, 0)
    table.forget(two)
    assert broker.counters.channels_closed == 2


def test_limits_of_the_connection_and_of_the_node() -> None:
    """RabbitMQ counts channels, whatever their numbers are."""
    broker, table, session = made()
    table.open(7, session, 1)
    with pytest.raises(ConnectionException, match="negotiated channel_max") as refused:
        table.open(1, session, 1)
    assert refused.value.code == NOT_ALLOWED
    broker.limits.node_channels_max = 1
    with pytest.raises(ConnectionException, match="on node"):
        table.open(1, session, 0)
    assert len(table) == broker.server.channels_open == 1


def test_all_of_them_at_once() -> None:
    broker, table, session = made()
    channels = [table.open(number, session, 0) for number in (3, 1, 2)]
    assert table.take_all() == channels
    assert (len(table), table.last, broker.server.channels_open, broker.counters.channels_closed) == (0, None, 0, 3)
