"""Promises as tickets (broker/promises.py): what is kept, and whom a message depends on."""

from __future__ import annotations

from broker.promises import Promise, PromiseSources
from tests.toys.promising import ToySource


def test_a_promise_is_kept_with_its_ticket() -> None:
    source = ToySource()
    first = Promise(source, source.ticket())
    source.gather()
    second = Promise(source, source.full_ticket())
    assert (first.is_kept(), second.is_kept()) == (False, False)
    source.keep(1)
    assert (first.is_kept(), second.is_kept()) == (True, False)
    source.keep()
    assert second.is_kept()
    assert not source.is_held_for_long()


def test_each_source_is_asked_once() -> None:
    one, other = ToySource(), ToySource()
    sources = PromiseSources()
    for source in (one, other, None, one):
        sources.add(source)
    assert sources.take_others() == [one, other]
    assert sources.take_others() == []
