"""Workers and Redis: who works, how hard, and whether the server holds out."""

from __future__ import annotations

from grafana.generator.expressions import NS, RATE, one, quantile, rate
from grafana.generator.panels import Json, Line, graph, line, ns_variable, numbers, queue_variable, row, stat
from grafana.generator.panels import dashboard as whole


def by_worker(name: str) -> str:
    """A gauge per worker process."""
    return f"max by (worker) (taskq_worker_{name}{{{NS}}})"


BUSY = f"sum({by_worker('busy_slots')})"
SLOTS = f"sum(max by (worker, kind) (taskq_worker_slots{{{NS}}}))"
WORKER = {"legend": "{{worker}}"}
LIMIT = one("redis_memory_limit_bytes")


def dashboard() -> Json:
    """The machinery."""
    return whole(
        "workers",
        "workers and Redis",
        "Who works, how hard, and whether Redis holds out.",
        [ns_variable(), queue_variable()],
        [*_workers(), *_leases(), *_redis()],
    )


def _workers() -> list[Line]:
    return [
        row("Workers"),
        numbers(
            stat("Processes", f"sum(taskq_workers{{{NS}}})", "Worker processes with a lease.", bad_below=1),
            stat("Slots", SLOTS, "Places to run a task, async ones included."),
            stat("Busy", f"{BUSY} / {SLOTS}", "Share of the slots.", unit="percentunit"),
            stat(
                "Oldest heartbeat",
                f"max({by_worker('heartbeat_age_seconds')})",
                "Seconds since the most silent worker renewed its leases.",
                unit="s",
            ),
        ),
        line(
            graph("Busy slots", by_worker("busy_slots"), "Runs under way.", stacked=True, **WORKER),
            graph("Held", by_worker("held"), "Fetched and not settled, running ones included.", **WORKER),
            graph("Memory", by_worker("rss_bytes"), "Resident, child processes included.", unit="bytes", **WORKER),
        ),
        line(
            graph(
                "Heartbeat age",
                by_worker("heartbeat_age_seconds"),
                "Sawteeth of up to half a lease are as it should be; a line that climbs is a worker that died.",
                unit="s",
                **WORKER,
            ),
            graph(
                "Uptime",
                f"time() - {by_worker('start_time_seconds')}",
                "A line that begins anew again and again is a crash loop.",
                unit="s",
                **WORKER,
            ),
            graph(
                "Releases",
                f"sum by (version) (taskq_workers{{{NS}}})",
                "Worker processes by the release of taskq; more than one only during a deploy.",
                legend="{{version}}",
                stacked=True,
            ),
        ),
    ]


def _leases() -> list[Line]:
    return [
        row("Leases"),
        line(
            graph("Taken over", rate("redelivered_total", "queue"), "From workers that died.", unit="ops"),
            graph("Leases lost", rate("lease_lost_total", "queue"), "Cut off, or paused for too long.", unit="ops"),
            graph(
                "Round trip to Redis",
                [(quantile(q, "broker_roundtrip_seconds", chosen=NS), f"p{q * 100:g}") for q in (0.5, 0.99)],
                "Of the workers' renewals.",
                unit="s",
            ),
        ),
    ]


def _redis() -> list[Line]:
    return [
        row("Redis"),
        numbers(
            stat("Memory", one("redis_memory_bytes"), "In use.", unit="bytes"),
            stat(
                "Share of the limit",
                f"{one('redis_memory_bytes')} / ({LIMIT} > 0)",
                "Of maxmemory; nothing where there is no limit.",
                unit="percentunit",
                bad_from=0.85,
            ),
            stat("Clients", one("redis_clients"), "Connections, of anybody."),
            stat("Evicted keys", one("redis_evicted_keys_total"), "Any is a lost task.", bad_from=1),
            stat("Scrape", one("scrape_seconds"), "How long the exporter took to read Redis.", unit="s"),
            stat("Round trips", one("scrape_round_trips"), "How often it asked for that."),
        ),
        line(
            graph(
                "Memory",
                [(one("redis_memory_bytes"), "used"), (LIMIT, "limit (0: none)")],
                "Full memory stops producers; workers go on.",
                unit="bytes",
            ),
            graph(
                "Commands",
                [(f"max(rate(taskq_redis_commands_total{{{NS}}}{RATE}))", "commands")],
                "Executed by Redis, inside scripts too, of anybody.",
                unit="ops",
            ),
            graph(
                "Spooled and dropped",
                [
                    (f"max(taskq_enqueue_spooled{{{NS}}})", "waiting in the spool"),
                    (f"sum(increase(taskq_enqueue_dropped_total{{{NS}}}{RATE}))", "dropped"),
                ],
                "Messages of processes that expose it, while Redis could not be reached.",
            ),
        ),
    ]
