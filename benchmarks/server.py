"""The Redis of the run: its own server on a free port, nothing saved, begun anew for every sample."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from taskq.embedded import EmbeddedRedis

START_TIMEOUT = 120.0
"""Seconds: a snapshot of ten million messages takes a while to load."""


class Server:
    """A Redis server that can be put back to a snapshot.

    Args:
        directory: for its data; emptied.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._dump = directory / "dump.rdb"
        self._embedded = EmbeddedRedis(directory, appendonly=False, start_timeout=START_TIMEOUT)
        self._client: Any = None

    def __enter__(self) -> Self:
        self.fresh()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def url(self) -> str:
        """Where it listens; the same for the whole run."""
        return self._embedded.url

    @property
    def version(self) -> str:
        """Of the server."""
        return self._embedded.version

    @property
    def client(self) -> Any:
        """The harness's own connection; its commands are few, and subtracted where commands are counted."""
        return self._client

    def fresh(self, snapshot: Path | None = None) -> None:
        """A new server process, empty or with what *snapshot* holds."""
        self._stop()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._dump.unlink(missing_ok=True)
        if snapshot is not None:
            shutil.copy(snapshot, self._dump)
        self._embedded.start()
        self._client = redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=None, protocol=2)
        self._client.ping()

    def save(self, snapshot: Path) -> None:
        """Keep the present data."""
        self._client.save()
        shutil.copy(self._dump, snapshot)

    def info(self, section: str) -> dict[str, Any]:
        """One section of INFO."""
        found: dict[str, Any] = self._client.info(section)
        return found

    def commands(self) -> int:
        """Commands executed since the start, those inside scripts included."""
        return int(self.info("stats")["total_commands_processed"])

    def cpu_seconds(self) -> float:
        """CPU time of the server."""
        cpu = self.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    def memory(self) -> int:
        """Bytes in use."""
        return int(self.info("memory")["used_memory"])

    def _stop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._embedded.stop()
