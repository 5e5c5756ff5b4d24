"""This machine's clock against Redis's, and how long a command takes."""

from __future__ import annotations

import time
from collections.abc import Iterator

from taskq.observe.doctor.finding import Finding, error, warning
from taskq.observe.doctor.patient import Patient

SAMPLES = 15
SKEW, BAD_SKEW = 1.0, 30.0
"""Seconds between the clocks."""
SLOW, BAD_SLOW = 0.010, 0.100
"""Median seconds of one round trip."""


def check(patient: Patient) -> Iterator[Finding]:
    """Time a few commands."""
    took, skews = [], []
    for _ in range(SAMPLES):
        before, begun = time.time(), time.perf_counter()
        seconds, micros = patient.ask("TIME")
        took.append(time.perf_counter() - begun)
        skews.append(int(seconds) + int(micros) / 1e6 - before - took[-1] / 2)
    skew = skews[took.index(min(took))]  # the quickest answer says it best
    if abs(skew) > SKEW:
        grave = error if abs(skew) > BAD_SKEW else warning
        yield grave(
            "clock.skew",
            f"Redis's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's: eta, expires"
            " and schedules are off by that",
            "run a time service (chrony, systemd-timesyncd) on both",
        )
    median = sorted(took)[SAMPLES // 2]
    if median > SLOW:
        grave = error if median > BAD_SLOW else warning
        yield grave(
            "clock.latency",
            f"a command takes {median * 1000:.1f} ms from here (median of {SAMPLES})",
            "bring them nearer, or look for slow commands (SLOWLOG GET), swapping and a busy CPU",
        )
