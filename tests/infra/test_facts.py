"""Rates out of counters that real kernels give."""

from __future__ import annotations

from infra.facts import Counters, Rates, rates_between


def rates(busy: tuple[float, float], iowait: tuple[float, float], total: tuple[float, float]) -> Rates:
    before, after = (
        Counters(
            at_s=at_s, cpu_busy_s=busy[n], cpu_iowait_s=iowait[n], cpu_total_s=total[n],
            disks=(), interfaces=(),
        )
        for n, at_s in enumerate((10.0, 10.04))
    )
    found = rates_between(before, after)
    assert found is not None
    return found


def test_a_cpu_that_was_busy_throughout_was_busy_for_100_percent_and_no_more() -> None:
    busy, total = (4321.07, 4321.11), (12345.67, 12345.71)
    assert (busy[1] - busy[0]) / (total[1] - total[0]) > 1  # what floating point makes of 0.04 s of 0.04 s
    assert rates(busy, (0, 0), total).cpu_percent == 100


def test_iowait_that_the_kernel_took_back_is_none() -> None:
    assert rates((1, 1.5), (3.02, 3.01), (10, 11)).iowait_percent == 0
    assert rates((1, 1.5), (3, 3.25), (10, 11)).iowait_percent == 25
