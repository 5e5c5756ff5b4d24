"""The Redis server: what an alert must know of it."""

from __future__ import annotations

from taskq.errors import BrokerError
from taskq.observe.metrics.catalogue import counters, gauges
from taskq.observe.metrics.exporter.subject import Moment, Steps

_GAUGES = {
    "taskq_redis_memory_bytes": "used_memory",
    "taskq_redis_memory_limit_bytes": "maxmemory",
    "taskq_redis_clients": "connected_clients",
}
_COUNTERS = {
    "taskq_redis_commands_total": "total_commands_processed",
    "taskq_redis_evicted_keys_total": "evicted_keys",
}


class ServerSubject:
    """Memory, connections and commands; nothing where the ACL forbids ``INFO``."""

    def read(self, moment: Moment) -> Steps:
        replies = yield [("INFO", section) for section in ("memory", "clients", "stats")]
        found: dict[str, float] = {}
        for reply in replies:
            if not isinstance(reply, BrokerError):
                found |= _numbers(reply)
        ns = moment.keys.namespace
        return [
            build(name, ns, [((), found[field])] if field in found else [])
            for build, names in ((gauges, _GAUGES), (counters, _COUNTERS))
            for name, field in names.items()
        ]


def _numbers(info: bytes) -> dict[str, float]:
    pairs = (line.split(":", 1) for line in info.decode(errors="replace").splitlines() if ":" in line)
    return {name: float(value) for name, value in pairs if value.isdigit()}
