"""The dead letter queue: what failed for good, kept with its evidence until a person or a schedule deals with it.

Nothing removes a dead letter but a replay, a purge, or a retention that the app asks for.
"""

from taskq.client.dlq.filters import Filter, Where
from taskq.client.dlq.letter import DeadLetter, Evidence, pack_evidence
from taskq.client.dlq.query import Group, Page
from taskq.client.dlq.runs import Run, Tally
from taskq.client.dlq.store import DeadLetters

__all__ = ["DeadLetter", "DeadLetters", "Evidence", "Filter", "Group", "Page", "Run", "Tally", "Where", "pack_evidence"]
