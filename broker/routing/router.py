"""From an exchange and routing keys to queues: through exchange-to-exchange bindings and alternate exchanges, each queue once.

RabbitMQ's order of things (`rabbit_exchange:route`): every exchange is visited once, so cycles end; the alternate exchange of any
visited exchange is visited when that exchange's *own* bindings match nothing, whatever the exchanges behind them do; a missing
alternate exchange is passed over. Queues come in the order they are found, which is the same every time.
"""

from typing import Final, cast, final

from librt.strings import read_i32_be

from broker.destination import Destination
from broker.errors import PRECONDITION_FAILED, ChannelException
from broker.native import i64
from broker.routing.exchange import Exchange
from broker.wire import table
from broker.wire.table import FieldTable

_SENDER_SELECTED: Final = (b"CC", b"BCC")


@final
class Router:
    """Finds routes in one vhost; ``exchanges`` is the vhost's own dictionary."""

    def __init__(self, exchanges: dict[str, Exchange]) -> None:
        self._exchanges = exchanges
        self.used_headers: bool = False
        """Whether the last route depended on the headers, so that it must not be remembered by routing key."""

    def route(self, exchange: Exchange, keys: list[str], headers: FieldTable | None) -> list[Destination]:
        """The queues a message with these routing keys (its own first, then CC and BCC) goes to, each once; [] if none."""
        self.used_headers = exchange.needs_headers
        found: list[Destination] = []
        exchange.match_keys(keys, headers, found)
        if not found:
            return self._follow(exchange, keys, headers, found) if exchange.alternate_exchange else found
        for destination in found:
            if destination.is_exchange:
                return self._follow(exchange, keys, headers, found)
        return found if len(found) == 1 else list(dict.fromkeys(found))

    def _follow(self, exchange: Exchange, keys: list[str], headers: FieldTable | None, found: list[Destination]) -> list[Destination]:
        queues: dict[Destination, None] = {}
        seen: set[Destination] = {exchange}
        waiting: list[Exchange] = []
        while True:
            if not found:
                alternate = self._exchanges.get(exchange.alternate_exchange) if exchange.alternate_exchange else None
                if alternate is not None and alternate not in seen:
                    seen.add(alternate)
                    waiting.append(alternate)
            for destination in found:
                if not destination.is_exchange:
                    queues[destination] = None
                elif destination not in seen:
                    seen.add(destination)
                    waiting.append(cast(Exchange, destination))
            if not waiting:
                return list(queues)
            exchange = waiting.pop()
            if exchange.needs_headers:
                self.used_headers = True
            found = []
            exchange.match_keys(keys, headers, found)


def extra_keys(headers: FieldTable) -> list[str]:
    """The further routing keys in the CC and BCC headers (RabbitMQ docs, Sender-selected Distribution).

    Elements that are not long strings are passed over, as RabbitMQ does. Raises: PRECONDITION_FAILED (406) if a header is no array.
    """
    keys: list[str] = []
    data = headers.raw
    for name in _SENDER_SELECTED:
        at = table.find(data, 0, len(data), name)
        if at < 0:
            continue
        if data[at] != table.ARRAY:
            type_name = table.TYPE_NAMES[data[at]]
            text = f'invalid message: {{unacceptable_type_in_header,"{name.decode()}",{type_name}}}'
            raise ChannelException(PRECONDITION_FAILED, text)
        end = at + 5 + (i64(read_i32_be(data, at + 1)) & 0xFFFFFFFF)
        at += 5
        while at < end:
            after = table.after_value(data, at)
            if data[at] == table.LONGSTR:
                keys.append(data[at + 5 : after].decode("utf-8", "surrogateescape"))
            at = after
    return keys
