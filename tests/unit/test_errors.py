"""The two ways AMQP fails (broker/errors.py)."""

from __future__ import annotations

import pytest
from pamqp import exceptions

from broker import errors
from broker.errors import ChannelException, ConnectionException, ProtocolException, exchange_label, queue_label

SOFT = {
    "CONTENT_TOO_LARGE",
    "NO_ROUTE",
    "NO_CONSUMERS",
    "ACCESS_REFUSED",
    "NOT_FOUND",
    "RESOURCE_LOCKED",
    "PRECONDITION_FAILED",
}


@pytest.mark.parametrize("code", sorted(errors.NAMES))
def test_codes_and_names_are_the_protocols(code: int) -> None:
    """AMQP 0-9-1 §1.1, constants; pamqp has the same list."""
    name = errors.NAMES[code]
    assert getattr(errors, name) == code
    if code in exceptions.CLASS_MAPPING:
        assert vars(exceptions.CLASS_MAPPING[code])["name"] == name.replace("_", "-")


def test_every_code_of_the_protocol_has_a_name() -> None:
    assert set(exceptions.CLASS_MAPPING) <= set(errors.NAMES)


def test_the_text_is_name_and_explanation() -> None:
    """AMQP 0-9-1 §1.1, reply-text, as RabbitMQ words it."""
    assert ChannelException(errors.NOT_FOUND, "no queue 'q'").text == "NOT_FOUND - no queue 'q'"


def test_soft_and_hard_are_different_kinds() -> None:
    soft, hard = ChannelException(404, "x", 50, 10), ConnectionException(504, "y")
    assert isinstance(soft, ProtocolException)
    assert isinstance(hard, ProtocolException)
    assert not isinstance(soft, ConnectionException)
    assert not isinstance(hard, ChannelException)
    assert (soft.class_id, soft.method_id, hard.class_id, hard.method_id) == (50, 10, 0, 0)


def test_labels() -> None:
    """How RabbitMQ names things in its texts."""
    assert queue_label("q", "/") == "queue 'q' in vhost '/'"
    assert exchange_label("x", "v") == "exchange 'x' in vhost 'v'"
