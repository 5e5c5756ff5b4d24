"""One schedule as one beat sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from taskq.broker.keys import QueueKeys
from taskq.client.schedules.definition import Definition
from taskq.client.schedules.registry import Standing
from taskq.values.schedule import Schedule

NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True, eq=False)
class Watched:
    """A schedule, and how far this beat has come with it."""

    definition: Definition
    schedule: Schedule
    keys: QueueKeys
    standing: Standing
    """Of its definition; while a newer one stands, this beat does not fire it."""
    seen: datetime | None = None
    """All fire times up to here are dealt with. None: none yet, or Redis was out of sight since."""
    last: datetime | None = None
    """The last fire time that Redis knows. None: not armed, or Redis was out of sight since."""
    due: datetime | None = None
    """Nothing to do before. None: look now."""
    counts_missed: bool = True
    """Whether fire times may have been missed before the next one that is fired."""

    @property
    def name(self) -> str:
        return self.definition.name

    def lose_sight(self) -> None:
        """From now on, what was due meanwhile counts as missed."""
        self.seen = self.last = self.due = None
        self.counts_missed = True

    def disarm(self) -> None:
        """Redis does not know this revision as the one to fire (any more): register it again before anything else."""
        self.last = self.due = None
