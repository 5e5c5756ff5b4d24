"""PromQL that several dashboards use. ``$ns``, ``$queue`` and ``$task`` are Grafana's variables."""

from __future__ import annotations

NS = 'ns="$ns"'
QUEUE = f'{NS},queue=~"$queue"'
TASK = f'{QUEUE},task=~"$task"'
RATE = "[$__rate_interval]"

Target = tuple[str, str]
"""An expression, and the legend of its lines."""


def gauge(name: str) -> str:
    """A gauge per queue; max, because several exporters would show the same queue."""
    return f"max by (queue) (taskq_queue_{name}{{{QUEUE}}})"


def total(name: str) -> str:
    """A gauge summed over the chosen queues."""
    return f"sum({gauge(name)})"


def one(name: str, chosen: str = NS) -> str:
    """A gauge of the namespace."""
    return f"max(taskq_{name}{{{chosen}}})"


def rate(name: str, *by: str, chosen: str = QUEUE) -> str:
    """The rate of a counter, by labels."""
    kept = f" by ({', '.join(by)})" if by else ""
    return f"sum{kept} (rate(taskq_{name}{{{chosen}}}{RATE}))"


def quantile(q: float, name: str, *by: str, chosen: str = QUEUE) -> str:
    """A quantile of a histogram, by labels."""
    kept = ", ".join(("le", *by))
    return f"histogram_quantile({q:g}, sum by ({kept}) (rate(taskq_{name}_bucket{{{chosen}}}{RATE})))"


def percentiles(name: str, chosen: str = QUEUE) -> list[Target]:
    """The three lines of a latency graph."""
    return [(quantile(q / 100, name, chosen=chosen), f"p{q}") for q in (50, 95, 99)]


def mean(name: str, *by: str, chosen: str = QUEUE) -> str:
    """The mean of a histogram."""
    return f"{rate(f'{name}_sum', *by, chosen=chosen)} / {rate(f'{name}_count', *by, chosen=chosen)}"
