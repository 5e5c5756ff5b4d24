"""What the screen shows and what a key means: no terminal and no Redis here."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from taskq.broker.views.inspect import QueueStats
from taskq.broker.views.workers import WorkerInfo

PANELS = ("running", "workers")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The namespace at one moment."""

    queues: list[QueueStats] = field(default_factory=list)
    workers: list[WorkerInfo] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    """Queue -> deliveries that ended, per second."""
    at: float = 0.0
    """Epoch seconds on Redis's clock."""
    trouble: str = ""
    """Why the rest is old: Redis could not be asked."""


class Do(Enum):
    """What a key can ask for."""

    QUIT = "quit"
    PAUSE = "pause"
    RESUME = "resume"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class Action:
    """Something to do, with a queue where it takes one."""

    do: Do
    queue: str = ""


class State:
    """The present state of the screen."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
        self.selected = 0
        """Row of the queue that keys act on."""
        self.panel = PANELS[0]
        """What is below the queues."""
        self.question: Action | None = None
        """What waits for a yes."""
        self.message = ""
        """What came of the last action."""

    @property
    def queue(self) -> QueueStats | None:
        """The selected queue."""
        return self.snapshot.queues[self.selected] if self.snapshot.queues else None

    def show(self, snapshot: Snapshot) -> None:
        """Take a new snapshot; the selection stays on its queue."""
        name = self.queue.queue if self.queue else None
        if snapshot.trouble:
            snapshot = Snapshot(
                self.snapshot.queues, self.snapshot.workers, self.snapshot.rates, self.snapshot.at, snapshot.trouble
            )
        self.snapshot = snapshot
        names = [queue.queue for queue in snapshot.queues]
        self.selected = names.index(name) if name in names else min(self.selected, max(len(names) - 1, 0))

    def press(self, key: str) -> Action | None:
        """What *key* asks for; None when there is nothing to do but to draw."""
        if self.question is not None:
            asked, self.question = self.question, None
            self.message = "" if key in ("y", "Y") else "nothing done"
            return asked if key in ("y", "Y") else None
        self.message = ""
        match key:
            case "q" | "Q":
                return Action(Do.QUIT)
            case "up" | "k":
                self.selected = max(self.selected - 1, 0)
            case "down" | "j":
                self.selected = min(self.selected + 1, max(len(self.snapshot.queues) - 1, 0))
            case "home" | "g":
                self.selected = 0
            case "end" | "G":
                self.selected = max(len(self.snapshot.queues) - 1, 0)
            case "tab":
                self.panel = PANELS[(PANELS.index(self.panel) + 1) % len(PANELS)]
            case "p":
                return self._toggle()
            case "r":
                self._ask_replay()
        return None

    def _toggle(self) -> Action | None:
        queue = self.queue
        if queue is None:
            return None
        return Action(Do.RESUME if queue.paused else Do.PAUSE, queue.queue)

    def _ask_replay(self) -> None:
        queue = self.queue
        if queue is None or not queue.dead:
            self.message = "no dead letters to replay"
        else:
            self.question = Action(Do.REPLAY, queue.queue)
