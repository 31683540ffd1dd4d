"""Latencies in buckets: never off by more than two percent."""

from __future__ import annotations

import random

import pytest

from broker.perf.histogram import Histogram


def test_without_readings_every_quantile_is_zero() -> None:
    assert Histogram().quantile(0.5) == 0


@pytest.mark.parametrize("value", [0, 1, 63, 64, 127, 128, 129, 1000, 123_456, 10**9, 10**12])
def test_one_reading_is_given_back(value: int) -> None:
    histogram = Histogram()
    histogram.add(value)
    assert abs(histogram.quantile(0.5) - value) <= value * 0.02
    assert histogram.largest == value
    assert histogram.count == 1


def test_quantiles_agree_with_a_sorted_list() -> None:
    dice = random.Random(3)
    values = [int(dice.lognormvariate(11, 2)) for _ in range(5000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    values.sort()
    for share in (0.01, 0.25, 0.5, 0.9, 0.99, 0.999):
        exact = values[int(share * len(values))]
        assert abs(histogram.quantile(share) - exact) <= exact * 0.02 + 1
