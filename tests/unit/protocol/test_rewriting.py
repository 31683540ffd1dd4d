"""Properties that the broker changes (broker/protocol/rewriting.py): everything else of a message stays as it was."""

from __future__ import annotations

from broker.protocol.rewriting import with_reply_to, without_bcc
from broker.wire import properties, table
from broker.wire.properties import CONTENT_PROPERTIES_AT
from broker.wire.writer import body_of
from tests.support.fakes import make_message


def test_bcc_is_taken_out_of_the_headers() -> None:
    headers = table.make({"CC": ["a"], "BCC": ["b", "c"], "other": 1})
    message = make_message(b"body", headers=headers, priority=3, persistent=True, expiration_ms=9, channel=5)
    changed = without_bcc(message)
    found = properties.decode(changed.content, CONTENT_PROPERTIES_AT, int(changed.header_size) - 1)
    assert found.headers is not None
    assert found.headers.values == {"CC": ["a"], "other": 1}
    assert (found.priority, found.delivery_mode, found.expiration) == (3, 2, "9")
    assert changed.hides_keys, "who asks for its keys finds them all"
    assert not message.hides_keys
    assert body_of(changed) == b"body"
    for name in ("body_size", "payload_max", "channel", "priority", "persistent", "expiration_ms"):
        assert getattr(changed, name) == getattr(message, name)


def test_reply_to_names_the_address() -> None:
    message = make_message(b"x" * 300, message_id="id", payload_max=128)
    changed = with_reply_to(message, "amq.rabbitmq.reply-to.token")
    found = properties.decode(changed.content, CONTENT_PROPERTIES_AT, int(changed.header_size) - 1)
    assert (found.reply_to, found.message_id) == ("amq.rabbitmq.reply-to.token", "id")
    assert body_of(changed) == b"x" * 300
    assert (changed.tail, changed.payload_max) == (message.tail, message.payload_max)
    assert not changed.hides_keys
