"""What clients acknowledge and refuse (broker/protocol/settlement.py), as the frames say it; the rules themselves stand
in tests/spec/test_ack.py and test_tx.py."""

from __future__ import annotations

import pytest

from tests.support.memory import Broker, Client
from tests.support.wire import METHOD, frame, method_payload, publish

SETTLING = ("basic.ack", "basic.nack", "basic.reject")


def consuming(broker: Broker, count: int) -> Client:
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.consume("q")
    client.send(*(publish(1, "", "q", b"%d" % number) for number in range(count)))
    client.deliveries()
    return client


@pytest.mark.parametrize("name", SETTLING)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_frame_of_the_wrong_size_is_malformed(name: str, change: int) -> None:
    client = Broker().open()
    payload = method_payload(name, delivery_tag=1)
    client.send(frame(METHOD, 1, payload[:change] if change < 0 else payload + b"\x00"))
    client.connection_error(501)


@pytest.mark.parametrize("name", SETTLING)
def test_the_refusal_names_the_method(name: str) -> None:
    client = Broker().open()
    client.tell(name, delivery_tag=7)
    close = client.expect("channel.close")
    ids = int.from_bytes(method_payload(name)[:2], "big"), int.from_bytes(method_payload(name)[2:4], "big")
    assert (close["class_id"], close["method_id"]) == ids
    assert close["reply_text"] == "PRECONDITION_FAILED - unknown delivery tag 7"


@pytest.mark.parametrize(
    ("name", "flags", "left"),
    [
        ("basic.ack", {}, (0, 2)),
        ("basic.ack", {"multiple": True}, (0, 1)),
        ("basic.nack", {}, (0, 2)),
        ("basic.nack", {"multiple": True}, (0, 1)),
        ("basic.nack", {"requeue": True}, (0, 3)),
        ("basic.reject", {}, (0, 2)),
        ("basic.reject", {"requeue": True}, (0, 3)),
    ],
)
def test_what_the_flags_say(name: str, flags: dict[str, int], left: tuple[int, int]) -> None:
    """Of three deliveries the second one is meant; what goes back is delivered again at once."""
    broker = Broker()
    client = consuming(broker, 3)
    client.tell(name, delivery_tag=2, **flags)
    assert broker.depth("q") == left


@pytest.mark.parametrize("name", SETTLING)
def test_a_transaction_keeps_settlements_for_its_commit(name: str) -> None:
    broker = Broker()
    client = broker.open()
    client.ask("queue.declare", queue="q")
    client.ask("tx.select")
    client.publish("q", b"x")
    client.ask("tx.commit")
    client.consume("q")
    client.deliveries()
    transaction = client.opened.channels[1].transaction
    assert transaction is not None
    client.tell(name, delivery_tag=1)
    assert (len(transaction.settlements), broker.depth("q")) == (1, (0, 1))
    client.ask("tx.rollback")
    assert (len(transaction.settlements), broker.depth("q")) == (0, (0, 1))
    client.tell(name, delivery_tag=1)
    client.ask("tx.commit")
    assert (len(transaction.settlements), broker.depth("q")) == (0, (0, 0))
