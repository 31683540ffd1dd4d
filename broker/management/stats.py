"""What is counted, as RabbitMQ shows it: each count with its rate beside it (RabbitMQ docs, HTTP API:
message_stats)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from broker.stats import CHANNEL_NAMES, DELIVERY_NAMES, EXCHANGE_NAMES, NODE_NAMES, QUEUE_NAMES, Figures

_DELIVER_GET: Final = ("deliver", "deliver_no_ack", "get", "get_no_ack")
_DEPTH: Final = ("messages_ready", "messages_unacknowledged")


def counted(rates: Mapping[str, float] | None = None, **counts: int) -> dict[str, Any]:
    """Counts, each with the details that clients read its rate from: a float, also where nothing happens."""
    shown: dict[str, Any] = {}
    for name, count in counts.items():
        shown[name] = count
        shown[f"{name}_details"] = {"rate": 0.0 if rates is None else rates.get(name, 0.0)}
    return shown


def rates_of(names: tuple[str, ...], figures: Figures | None) -> dict[str, float]:
    """By second; none of what does not change."""
    return {} if figures is None else dict(zip(names, figures.rates, strict=False))


def _shown(counts: dict[str, int], rates: dict[str, float]) -> dict[str, Any]:
    counts["deliver_get"] = sum(counts[name] for name in _DELIVER_GET)
    if rates:
        rates["deliver_get"] = sum(rates[name] for name in _DELIVER_GET)
    return counted(rates, **counts)


def _message_stats(names: tuple[str, ...], figures: Figures | None, shown: tuple[str, ...]) -> dict[str, Any]:
    if figures is None:
        return {}
    counts = dict(zip(names, figures.counts(), strict=True))
    return _shown({name: counts[name] for name in shown}, rates_of(names, figures))


def of_queue(figures: Figures | None) -> dict[str, Any]:
    """``message_stats`` of a queue; empty where nothing has happened, as RabbitMQ's."""
    return _message_stats(QUEUE_NAMES, figures, DELIVERY_NAMES)


def of_channel(figures: Figures | None) -> dict[str, Any]:
    """The same of a channel."""
    return _message_stats(CHANNEL_NAMES, figures, CHANNEL_NAMES)


def of_exchange(figures: Figures | None) -> dict[str, Any]:
    """The same of an exchange."""
    if figures is None:
        return {}
    return counted(rates_of(EXCHANGE_NAMES, figures), **dict(zip(EXCHANGE_NAMES, figures.counts(), strict=True)))


def of_channels(several: Iterable[Figures | None]) -> dict[str, Any]:
    """The same of several channels together: a connection's."""
    counts = dict.fromkeys(CHANNEL_NAMES, 0)
    rates: dict[str, float] = {}
    found = False
    for figures in several:
        if figures is None:
            continue
        found = True
        for name, count in zip(CHANNEL_NAMES, figures.counts(), strict=True):
            counts[name] += count
        for name, rate in rates_of(CHANNEL_NAMES, figures).items():
            rates[name] = rates.get(name, 0.0) + rate
    return _shown(counts, rates) if found else {}


def of_node(figures: Figures) -> tuple[dict[str, Any], dict[str, Any]]:
    """``message_stats`` and ``churn_rates`` of the node: nothing is left out, also where nothing has happened."""
    counts = dict(zip(NODE_NAMES, figures.counts(), strict=True))
    rates = rates_of(NODE_NAMES, figures)
    churn = counted(rates, **{name: counts[name] for name in NODE_NAMES[len(CHANNEL_NAMES) :]})
    return _shown({name: counts[name] for name in CHANNEL_NAMES}, rates), churn


def of_depth(ready: int, unacked: int, others: int, rates: Mapping[str, float]) -> dict[str, Any]:
    """The messages in a queue, or in all; ``others`` are those that wait for a retry, and dead letters that stay."""
    given = {name: rates.get(name, 0.0) for name in _DEPTH}
    given["messages"] = sum(given.values())
    return counted(given, messages=ready + unacked + others, messages_ready=ready, messages_unacknowledged=unacked)


def idle_since(figures: Figures | None) -> dict[str, str]:
    """Since when nothing has happened, if anything has before: to five seconds, and as RabbitMQ writes it."""
    if figures is None or not figures.resting or figures.active_ms <= 0:
        return {}
    moment = datetime.fromtimestamp(figures.active_ms / 1000, UTC)
    return {"idle_since": moment.isoformat(timespec="milliseconds")}
