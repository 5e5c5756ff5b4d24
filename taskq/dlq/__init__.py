"""The dead letter queue: what failed for good, kept with its evidence until a person or a schedule deals with it.

Nothing removes a dead letter but a replay, a purge, or a retention that the app asks for.
"""

from taskq.dlq.filters import Filter, Where
from taskq.dlq.letter import DeadLetter, Evidence, pack_evidence
from taskq.dlq.query import Group, Page
from taskq.dlq.runs import Run, Tally
from taskq.dlq.store import DeadLetters

__all__ = ["DeadLetter", "DeadLetters", "Evidence", "Filter", "Group", "Page", "Run", "Tally", "Where", "pack_evidence"]
