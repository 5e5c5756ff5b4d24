"""Runs a batch: one call of the function, one :class:`Outcome` for each of its members.

An app without batch tasks has the plain :class:`Runner`, so that its tasks pay nothing for this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from taskq import failpoints
from taskq.broker.scripts.settling import Release
from taskq.client.app import TaskQ
from taskq.errors import NeverRanError
from taskq.values.batch import BatchItem
from taskq.values.delivery import Delivery, current_delivery
from taskq.values.functions import never_ran
from taskq.worker.partition.settling import Outcome, together
from taskq.worker.running import forked
from taskq.worker.running.runner import Runner, Within, meaning_of


def runner_of(app: TaskQ, worker: str) -> Runner:
    """The runner that *app* needs; *worker* is the name kept in dead letters."""
    batches = any(task.settings.batch is not None for task in app.tasks.values())
    return (BatchRunner if batches else Runner)(app.config, worker)


class BatchRunner(Runner):
    """A runner that also runs :class:`BatchDelivery`; the outcome of one holds those of its members, in order."""

    def call(self, delivery: Delivery, within: Within | None = None) -> Outcome:
        if delivery.members is None:
            return super().call(delivery, within)
        try:
            run = _Run(self, delivery, delivery.members)
            current_delivery.set(delivery)
            function = delivery.task.function
            try:
                if run.items:
                    run.returned(function(run.items) if within is None else within(function, run.items))
            except BaseException as error:
                if forked.strayed:
                    forked.leave(error)
                return run.failed(error)
            if forked.strayed:
                forked.leave(None)
            return run.outcome()
        except BaseException as error:
            return self.failed(delivery, error)

    async def acall(self, delivery: Delivery) -> Outcome:
        if delivery.members is None:
            return await super().acall(delivery)
        try:
            run = _Run(self, delivery, delivery.members)
            current_delivery.set(delivery)
            try:
                if run.items:
                    run.returned(await delivery.task.function(run.items))
            except BaseException as error:
                if forked.strayed:
                    forked.leave(error)
                return run.failed(meaning_of(delivery, error))
            if forked.strayed:
                forked.leave(None)
            return run.outcome()
        except BaseException as error:
            return self.failed(delivery, error)

    def failed(self, delivery: Delivery, error: BaseException) -> Outcome:
        if delivery.members is None:
            return super().failed(delivery, error)
        try:
            return _Run(self, delivery, delivery.members).failed(error)
        except BaseException as trouble:  # a bug of ours: each of them has an outcome all the same
            return together([super(BatchRunner, self).failed(member, trouble) for member in delivery.members])

    def revoked(self, delivery: Delivery) -> Outcome:
        if delivery.members is None:
            return super().revoked(delivery)
        return together([super(BatchRunner, self).revoked(member) for member in delivery.members])

    def lost_child(self, delivery: Delivery, exit_code: int | None, rss_bytes: int, ran: float) -> Outcome:
        """As of a single delivery. Of several nobody knows which one killed the child: all become suspects."""
        if delivery.members is None:
            return super().lost_child(delivery, exit_code, rss_bytes, ran)
        if len(delivery.members) > 1:
            return together([Outcome(Release(member.crashes), "RELEASED") for member in delivery.members])
        (member,) = delivery.members
        if member.suspect:  # charged for both crashes, as by recover.lua
            member.crashes = max(member.crashes, 1)
        return together([super().lost_child(member, exit_code, rss_bytes, ran)])


class _Run:
    """One invocation: who takes part, and what came of each."""

    def __init__(self, runner: BatchRunner, batch: Delivery, members: Sequence[Delivery]) -> None:
        if failpoints.ARMED:
            failpoints.hit("collect.begin")
        self._runner = runner
        self._members = members
        self._outcomes: dict[Delivery, Outcome] = {}
        self.items: list[BatchItem] = []
        """Of those that may start."""
        self._taking_part: list[Delivery] = []
        for member in members:
            refused = runner.admit(member)
            if refused is not None:
                self._outcomes[member] = refused
                continue
            member.started = batch.started
            self._taking_part.append(member)
            self.items.append(BatchItem(member))

    def returned(self, value: Any) -> None:
        """The function returned *value*; items that it marked have failed all the same."""
        if failpoints.ARMED:
            failpoints.hit("collect.end")
        try:
            values = _values(self.items, value)
        except BaseException as error:  # it does not say, or is a mapping or sequence of the user's that fails
            # to run them again would return the same, and do the effects twice
            for member, item in self._undecided():
                self._outcomes[member] = self._judged(member, item) or self._runner.dead(member, error)
            return
        for (member, item), own in zip(self._undecided(), values, strict=True):
            failed = self._judged(member, item)
            if failed is None and isinstance(own, BaseException):
                failed = self._runner.failed(member, own)
            self._outcomes[member] = failed or self._runner.succeeded(member, own)

    def failed(self, error: BaseException) -> Outcome:
        """The function raised *error*: all have failed, those that it marked for their own reason."""
        for member, item in self._undecided():
            self._outcomes[member] = self._judged(member, item) or self._runner.failed(member, error)
        return self.outcome()

    def outcome(self) -> Outcome:
        """All of it as one outcome."""
        return together([self._outcomes[member] for member in self._members])

    def _undecided(self) -> Iterator[tuple[Delivery, BatchItem]]:
        return zip(self._taking_part, self.items, strict=True)

    def _judged(self, member: Delivery, item: BatchItem) -> Outcome | None:
        return None if item.error is None else self._runner.failed(member, item.error)


def _values(items: Sequence[BatchItem], value: Any) -> list[Any]:
    """What the function returned, item by item; an exception stands for a failure.

    Raises:
        TypeError: it returned something that does not say.
    """
    if value is None:
        return [None] * len(items)
    if isinstance(value, Mapping):
        if unknown := set(value).difference(item.id for item in items):
            raise TypeError(
                f"a batch returned a value for {next(iter(unknown))!r}, which is the id of none of its items"
            )
        return [value.get(item.id, LookupError("the batch returned no value for this item")) for item in items]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        if len(value) == len(items):
            return list(value)
        raise TypeError(f"a batch of {len(items)} items returned {len(value)} values")
    if why := never_ran(value):
        raise NeverRanError(why)
    kind = type(value).__name__
    raise TypeError(f"a batch returns a list with a value for each item, a mapping by item id, or None; not {kind}")
