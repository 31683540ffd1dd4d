"""All that is declared and must survive, from what lives now: for a manifest that is written again because no file
tells it any more."""

from collections.abc import Iterator, Mapping

from broker.metadata.changes import Declared, DurableBinding, DurableExchange, DurableQueue
from broker.store.records import put_body
from broker.vhost.bindings import is_durable
from broker.vhost.vhost import VHost


def declared_now(vhosts: Mapping[str, VHost]) -> dict[bytes, bytes]:
    """What the journal would have to say of these vhosts: key -> body of the PUT."""
    found = (declared for vhost in vhosts.values() for declared in _of(vhost))
    return {declared.key(): put_body(declared.key(), declared.value()) for declared in found}


def _of(vhost: VHost) -> Iterator[Declared]:
    for exchange in vhost.exchanges.values():
        if exchange.durable and exchange.name and not exchange.name.startswith("amq."):
            yield DurableExchange(
                vhost.name,
                exchange.name,
                exchange.type_name,
                exchange.auto_delete,
                exchange.internal,
                exchange.arguments.raw,
            )
        if exchange.name:
            for each in exchange.bindings():
                if is_durable(each) and not each.destination.deleted:
                    to = each.destination
                    yield DurableBinding(
                        vhost.name, exchange.name, to.is_exchange, to.name, each.key, each.arguments.raw
                    )
    for queue in vhost.queues.values():
        if queue.log_number:
            yield DurableQueue(vhost.name, queue.name, queue.auto_delete, int(queue.log_number), queue.arguments.raw)
