"""One endpoint for several worker processes: each keeps its numbers in a file, the supervisor sums them.

A file outlives its process, so the totals never go down when a child dies (Prometheus would take that for a
restart and count everything again). A killed child takes at most the last second of counting with it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
from prometheus_client.core import CollectorRegistry, Metric

from taskq.observe.metrics.catalogue import CATALOGUE, EXPORTER
from taskq.observe.metrics.snapshot import Snapshot, families
from taskq.observe.metrics.worker import WorkerMetrics

logger = logging.getLogger("taskq.metrics")

INTERVAL = 1.0
"""Seconds between two writes of a busy child; an idle one does not write."""

_SUFFIX = ".metrics"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Snapshot).decode


class SharedMetrics:
    """Writes the numbers of this process to a file of its own, from a thread, until :meth:`close`.

    Args:
        metrics: of this process.
        directory: that of the supervisor's :func:`aggregate`.
    """

    def __init__(self, metrics: WorkerMetrics, directory: str | os.PathLike[str]) -> None:
        self._metrics = metrics
        self._file = Path(directory) / f"{os.getpid()}-{os.urandom(4).hex()}{_SUFFIX}"
        self._changed = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskq-metrics", daemon=True)
        metrics.changed = self._changed.set
        self._thread.start()

    def close(self) -> None:
        """Write the last numbers and end the thread."""
        self._stop.set()
        self._changed.set()
        self._thread.join()
        self._metrics.changed = None

    def _run(self) -> None:
        while not self._stop.is_set():
            self._changed.wait()
            self._changed.clear()
            self._write()
            self._stop.wait(INTERVAL)
        self._write()

    def _write(self) -> None:
        draft = self._file.with_suffix(".draft")
        try:
            draft.write_bytes(_encode(self._metrics.snapshot()))
            draft.replace(self._file)  # a reader sees the old numbers or the new ones
        except FileNotFoundError:
            pass  # the supervisor has ended and removed its directory
        except OSError as error:
            logger.warning("cannot write metrics: %s", error)


class ChildrenCollector:
    """The sum over all children, those that ended too. Made by :func:`aggregate`."""

    def __init__(self, directory: str | os.PathLike[str], ns: str) -> None:
        self._directory = Path(directory)
        self._ns = ns
        self._lock = threading.Lock()
        self._ended = Snapshot()

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus families."""
        total = Snapshot({spec.name: {} for spec in CATALOGUE if spec.place != EXPORTER})
        with self._lock:
            total.merge(self._ended)
            for file in self._directory.glob(f"*{_SUFFIX}"):
                total.merge(_decode(file.read_bytes()))
        return families(total, self._ns)

    def retire(self, pid: int) -> None:
        """Keep the numbers of a child that has ended, and remove its file."""
        with self._lock:
            for file in self._directory.glob(f"{pid}-*{_SUFFIX}"):
                self._ended.merge(_decode(file.read_bytes()).without_gauges())
                file.unlink()


def aggregate(directory: str | os.PathLike[str], ns: str, registry: CollectorRegistry) -> ChildrenCollector:
    """Expose the sum of what the worker processes that share *directory* counted.

    Args:
        directory: a private one, passed to the children for :class:`SharedMetrics`; the caller removes it.
        ns: the namespace, for the label.
        registry: where the metrics appear.
    """
    collector = ChildrenCollector(directory, ns)
    registry.register(collector)
    return collector
