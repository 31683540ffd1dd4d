"""What users may do (broker/auth/access.py); which method asks for what stands in tests/spec/access_cases.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.auth.access import CONFIGURE, READ, WRITE, Access, AccessControl
from broker.errors import ACCESS_REFUSED, ChannelException


class OnlyRead(Access):
    """Of a user that may read what begins with `a`."""

    def may(self, permission: str, name: str) -> bool:
        return permission == READ and name.startswith("a")

    def may_use_topic(self, permission: str, exchange: str, routing_key: str) -> bool:
        return permission == READ


@pytest.mark.parametrize(
    ("ask", "refused"),
    [
        (lambda access: access.check_queue(READ, "a"), ""),
        (lambda access: access.check_queue(READ, "b"), "read access to queue 'b' in vhost 'v' refused for user 'u'"),
        (lambda access: access.check_queue(WRITE, "a"), "write access to queue 'a' in vhost 'v' refused for user 'u'"),
        (lambda access: access.check_exchange(READ, ""), ""),
        (
            lambda access: access.check_exchange(CONFIGURE, ""),
            "configure access to exchange 'amq.default' in vhost 'v' refused for user 'u'",
        ),
        (lambda access: access.check_topic(READ, "x", "k"), ""),
        (
            lambda access: access.check_topic(WRITE, "x", "k"),
            "write access to topic 'k' in exchange 'x' in vhost 'v' refused for user 'u'",
        ),
    ],
)
def test_the_texts_are_rabbitmq_s(ask: Callable[[Access], None], refused: str) -> None:
    """RabbitMQ 3.13 `rabbit_access_control:check_resource_access`, `check_topic_access`."""
    ask(AccessControl().access("u", "v"))
    if not refused:
        ask(OnlyRead("u", "v"))
        return
    with pytest.raises(ChannelException) as raised:
        ask(OnlyRead("u", "v"))
    assert (raised.value.code, raised.value.explanation) == (ACCESS_REFUSED, refused)


def test_a_user_has_one_access_in_each_vhost() -> None:
    control = AccessControl()
    assert control.access("u", "v") is control.access("u", "v")
    assert control.access("u", "v") is not control.access("u", "w")
    assert control.access("u", "v") is not control.access("w", "v")
    assert control.access("u", "v").is_full
