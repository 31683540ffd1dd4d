"""Figures and their rates (broker/stats.py), with the time in the test's hands."""

from __future__ import annotations

from broker.clock import NEVER
from broker.counters import Counters
from broker.stats import (
    CHANNEL_NAMES,
    DELIVERY_NAMES,
    EXCHANGE_NAMES,
    NODE_NAMES,
    QUEUE_NAMES,
    ChannelFigures,
    Depth,
    ExchangeFigures,
    QueueFigures,
    Sampler,
)
from tests.support.fake_clock import FakeClock, HurriedClock


def made() -> tuple[FakeClock, Sampler, QueueFigures]:
    clock = FakeClock()
    sampler = Sampler(clock)
    return clock, sampler, QueueFigures(sampler)


def pass_time(clock: FakeClock, ms: int) -> None:
    clock.advance(ms)
    clock.run_due()


def test_names_stand_in_the_order_of_counts() -> None:
    sampler = Sampler(FakeClock())
    for names, figures in (
        (DELIVERY_NAMES, QueueFigures(sampler)),
        (CHANNEL_NAMES, ChannelFigures(sampler)),
        (EXCHANGE_NAMES, ExchangeFigures(sampler)),
    ):
        for name in names:
            setattr(figures, name, names.index(name) + 1)
        assert figures.counts()[: len(names)] == list(range(1, len(names) + 1))
    assert len(sampler.node.counts()) == len(NODE_NAMES)


def test_a_node_where_nothing_happens_has_no_timer() -> None:
    clock, _, figures = made()
    assert clock.next_deadline() == NEVER
    figures.stir()
    figures.publish += 1
    assert clock.next_deadline() == clock.now_ms + 5000


def test_the_rate_is_what_has_come_by_second() -> None:
    clock, _, figures = made()
    figures.stir()
    figures.publish += 100
    assert figures.rates == []
    pass_time(clock, 5000)
    assert figures.rates[QUEUE_NAMES.index("publish")] == 20.0
    assert figures.rates[QUEUE_NAMES.index("ack")] == 0.0
    figures.publish += 5
    pass_time(clock, 5000)
    assert figures.rates[QUEUE_NAMES.index("publish")] == 1.0
    assert figures.publish == 105


def test_a_late_timer_is_reckoned_with() -> None:
    clock, _, figures = made()
    figures.stir()
    figures.publish += 100
    clock.time_ms += 10_000
    clock.run_due()
    assert figures.rates[0] == 10.0


def test_who_stops_is_looked_at_once_more_and_then_not() -> None:
    clock, _, figures = made()
    figures.stir()
    figures.publish += 100
    pass_time(clock, 5000)
    active_ms = clock.wall_ms
    assert not figures.resting
    pass_time(clock, 5000)
    assert (figures.rates, figures.resting, figures.active_ms) == ([], True, active_ms)
    assert clock.next_deadline() == NEVER
    figures.stir()
    figures.publish += 10
    pass_time(clock, 5000)
    assert figures.rates[0] == 2.0


def test_one_that_begins_within_an_interval() -> None:
    """Its first rate is over the whole interval, as that of all others."""
    clock, sampler, figures = made()
    figures.stir()
    figures.publish += 1
    pass_time(clock, 4000)
    late = QueueFigures(sampler)
    late.stir()
    late.ack += 50
    pass_time(clock, 1000)
    assert late.rates[QUEUE_NAMES.index("ack")] == 10.0


def test_to_stir_twice_is_to_be_sampled_once() -> None:
    clock, _, figures = made()
    figures.stir()
    figures.publish += 1
    figures.stir()
    figures.publish += 9
    pass_time(clock, 5000)
    assert figures.rates[0] == 2.0
    pass_time(clock, 5000)
    assert figures.resting


def test_very_many_are_sampled_in_slices_over_one_interval() -> None:
    """Others have their turn in between; rates and the next sample do not drift."""
    clock = HurriedClock()
    sampler = Sampler(clock)
    many = [QueueFigures(sampler) for _ in range(1000)]
    for figures in many:
        figures.stir()
        figures.publish += 10
    clock.time_ms += 5000
    looks = 0
    while clock.next_deadline() <= clock.time_ms:
        clock.run_due()
        looks += 1
    assert looks == 4
    assert {figures.rates[0] for figures in many} == {2.0}
    assert clock.next_deadline() == clock.time_ms + 5000


class Line(Depth):
    """A queue that is as long as the test says."""

    def __init__(self) -> None:
        self.ready = 0

    def depth(self) -> tuple[int, int]:
        return self.ready, 0


def test_a_queue_that_grows_shows_it() -> None:
    """``messages_ready_details`` of RabbitMQ: by how much the queue changes."""
    clock = FakeClock()
    line = Line()
    line.ready = 7
    figures = QueueFigures(Sampler(clock), line)
    figures.stir()
    line.ready = 17
    figures.publish += 20
    pass_time(clock, 5000)
    assert figures.rates[QUEUE_NAMES.index("messages_ready")] == 2.0
    line.ready = 7
    pass_time(clock, 5000)
    assert figures.rates[QUEUE_NAMES.index("messages_ready")] == -2.0


def test_the_node_is_sampled_while_anything_is() -> None:
    clock = FakeClock()
    counters = Counters()
    sampler = Sampler(clock, counters)
    counters.messages_received = 1000
    figures = QueueFigures(sampler)
    figures.stir()
    figures.publish += 10
    counters.messages_received += 10
    pass_time(clock, 5000)
    assert sampler.node.rates[NODE_NAMES.index("publish")] == 2.0
    pass_time(clock, 5000)
    assert sampler.node.rates == []


def test_what_happens_to_the_node_alone_has_a_rate_and_an_end() -> None:
    """Connections that come and go, for example: no object of theirs is sampled."""
    clock = FakeClock()
    counters = Counters()
    sampler = Sampler(clock, counters)
    sampler.wake()
    counters.connections_opened += 10
    pass_time(clock, 5000)
    assert sampler.node.rates[NODE_NAMES.index("connection_created")] == 2.0
    pass_time(clock, 5000)
    assert (sampler.node.rates, clock.next_deadline()) == ([], NEVER)


class Broken(Depth):
    """A queue that fails when it is asked, once it was stirred."""

    def __init__(self) -> None:
        self.fails = False

    def depth(self) -> tuple[int, int]:
        if self.fails:
            raise RuntimeError("depth")
        return 0, 0


def test_a_mistake_costs_its_own_figures_alone() -> None:
    clock = FakeClock()
    sampler = Sampler(clock)
    queue = Broken()
    figures = [QueueFigures(sampler), QueueFigures(sampler, queue), QueueFigures(sampler)]
    for each in figures:
        each.stir()
        each.publish += 10
    queue.fails = True
    pass_time(clock, 5000)
    assert clock.faults.count == 1
    assert [each.rates[:1] for each in figures] == [[2.0], [], [2.0]]
    figures[0].publish += 5
    pass_time(clock, 5000)
    assert figures[0].rates[0] == 1.0
