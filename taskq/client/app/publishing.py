"""The part of an app that declares topics, publishes events and subscribes to them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from taskq.broker.producer import OutgoingEvent
from taskq.client.app.registering import check_task_function
from taskq.client.app.sending import Sending
from taskq.client.broadcast import BroadcastHandlers
from taskq.client.task import BaseTask, Registrar
from taskq.errors import ConfigError, UnknownTopicError
from taskq.values import serialization
from taskq.values.checks import check_flag, check_function, check_items, check_text, shown
from taskq.values.config import check_name
from taskq.values.subscription import Subscription, check_group, check_settings, check_start
from taskq.values.topics import Topic, check_key, unwrapping
from taskq.values.transaction import PUBLISH_EVENT, KeyOf, Value

if TYPE_CHECKING:
    from taskq.values.durations import Duration

H = TypeVar("H", bound=Callable[[Any], Any])


class Publishing(Sending, ABC):
    """What :class:`taskq.TaskQ` can do with event streams."""

    topics: dict[str, Topic]
    subscriptions: dict[str, Subscription]
    """By the name of the group's queue."""
    broadcasts: BroadcastHandlers

    def topic(
        self,
        name: str,
        *,
        retention: Duration | None = None,
        max_events: int | None = None,
        max_bytes: int | None = None,
    ) -> Topic:
        """Declare a topic, so that this app can publish to it and subscribe to it.

        Args:
            name, retention, max_events, max_bytes: see :class:`taskq.Topic`. What the app that publishes says holds.

        Raises:
            ConfigError: a limit that cannot be used, or the topic is declared already with other limits.
        """
        topic = Topic(name, retention, max_events, max_bytes)
        known = self.topics.setdefault(name, topic)
        if known != topic:
            raise ConfigError(f"topic {name!r} is declared already, with other limits: {known}")
        return known

    def publish(self, topic: str, payload: Any, *, key: str | None = None) -> None:
        """Publish an event: every group of the topic gets it.

        Args:
            topic: declared with :meth:`topic`.
            payload: plain data, as the arguments of a task.
            key: events of one key belong together, see ``ordered=`` of :meth:`subscriber`.

        Raises:
            UnknownTopicError: the topic is not declared.
            ConfigError: a key that cannot be used.
            SerializationError: the payload has no wire form.
            BrokerError: Redis did not accept it within ``broker_deadline``. After BrokerUnavailableError it may or
                may not have been published, but never twice.
        """
        self.send((self._event(topic, payload, key),))

    async def apublish(self, topic: str, payload: Any, *, key: str | None = None) -> None:
        """As :meth:`publish`, without blocking the event loop. Concurrent calls leave together."""
        await self.asend(self._event(topic, payload, key))

    def publish_many(self, topic: str, payloads: Iterable[Any], *, key: KeyOf | None = None) -> int:
        """Publish many events in order, a thousand to a round trip; how many there were.

        Args:
            topic: declared with :meth:`topic`.
            payloads: one for each event.
            key: tells the key of a payload, such as ``lambda order: order["customer"]``.

        Raises:
            UnknownTopicError, ConfigError, SerializationError: as :meth:`publish`; then nothing is published.
            BrokerError: Redis did not accept a page in time; pages before it were accepted.
        """
        events = self._events(topic, payloads, key)
        self.send(events)
        return len(events)

    async def apublish_many(self, topic: str, payloads: Iterable[Any], *, key: KeyOf | None = None) -> int:
        """As :meth:`publish_many`, without blocking the event loop."""
        events = self._events(topic, payloads, key)
        await self.asend_many(events)
        return len(events)

    def subscriber(
        self,
        topic: str,
        *,
        group: str,
        start: str | datetime = "earliest",
        ordered: bool = False,
        name: str | None = None,
        bind: bool = False,
        **settings: Any,
    ) -> Registrar:
        """Have a function handle every event of a topic, for one group of subscribers.

        The workers of a group share its events, and other groups get them too. An event is handled like a message
        of a task: leases, retries, dead letters, hooks and metrics are those of the queue ``<topic>/<group>``.

        Args:
            topic: declared with :meth:`topic`.
            group: whose position this is; one function serves it.
            start: where a new group begins: ``"earliest"`` event that is kept, ``"latest"`` for those published
                from now on, or a datetime. Later it goes on where it was.
            ordered: events of one key are handled one after the other, in the order of their publication, also across
                retries and crashes; those of other keys, and those without a key, meanwhile.
            name: of the task; default ``<topic>/<group>``.
            bind: pass a :class:`taskq.Context` before the event.
            **settings: as for ``@app.task``. Results are not stored unless ``ignore_result=False``.

        Raises:
            UnknownTopicError: the topic is not declared.
            ConfigError: a group, start or setting that cannot be used; the group has a function already.
        """
        self._declared(topic)
        where = f"a subscriber of {topic}"
        checked, begin = check_settings(settings, where), check_start(start)
        check_flag(ordered, f"{where}: ordered")
        queue = f"{topic}/{check_group(group)}"
        if ordered and checked.get("delivery") == "at_most_once":
            raise ConfigError(f'{where}: ordered=True needs delivery="at_least_once", which ends when the handler does')

        def decorate(function: Any) -> Any:
            function = check_task_function(function, "@app.subscriber", bound=bind)
            task_name = queue if name is None else check_text(name, "the name of a subscriber")
            subscription = Subscription(topic, group, task_name, begin, ordered)
            known = self.subscriptions.get(queue)
            if known is not None and known != subscription:
                raise ConfigError(f"group {group!r} of topic {topic!r} has a subscriber; give this one another group")
            task = self.register(
                unwrapping(function, topic, bind=bind),
                name=subscription.task,
                bind=bind,
                settings=checked,
                group_queue=queue,
            )
            self.subscriptions[queue] = subscription
            return task

        return decorate

    def broadcast(self, name: str, payload: Any = None) -> int:
        """Tell every worker process that is connected now, and no other: live, without memory.

        It reaches the functions of ``@app.on_broadcast(name)``. A process that is away misses it, and nobody is told:
        for cache invalidation and the like. What must not be lost is an event, see :meth:`publish`.

        Args:
            name: 1 to 100 letters, digits, ``_``, ``-`` or ``.``.
            payload: plain data.

        Returns:
            How many processes it was handed to.

        Raises:
            ConfigError: a name that cannot be used.
            SerializationError: the payload has no wire form.
            BrokerError: Redis could not be reached. (A reply that is lost makes it go out a second time.)
        """
        channel = self.keys.broadcast(check_name(name, "a broadcast's name"))
        return int(self.sync_broker.execute("PUBLISH", channel, serialization.dumps(payload, f"a broadcast of {name}")))

    async def abroadcast(self, name: str, payload: Any = None) -> int:
        """As :meth:`broadcast`, without blocking the event loop."""
        return await asyncio.to_thread(self.broadcast, name, payload)

    def on_broadcast(self, name: str) -> Callable[[H], H]:
        """Have a function (of the payload, ordinary or async) run in every worker process when *name* is broadcast.

        An sync function runs in a thread beside the tasks. What it raises is logged.

        Raises:
            ConfigError: a name that cannot be used.
        """
        check_name(name, "a broadcast's name")

        def decorate(handler: H) -> H:
            self.broadcasts.add(name, check_task_function(handler, "@app.on_broadcast"))
            return handler

        return decorate

    def event_commands(self, topic: str, payloads: Iterable[Any], key: KeyOf | None) -> list[tuple[Value, ...]]:
        """The commands with which ``ctx.tx`` publishes events. Raises as :meth:`publish_many`."""
        limits, keys = self._declared(topic).limits, self.keys.topic(topic)
        age, most, size = limits
        where = (keys.events, keys.state, keys.published)
        events = [
            (PUBLISH_EVENT, *where, event.key, event.data, *limits, self.keys.topics, topic)
            for event in self._events(topic, payloads, key)
        ]
        return [("HSET", keys.state, "age", age, "events", most, "bytes", size), *events] if events else []

    def _declared(self, topic: str) -> Topic:
        try:
            return self.topics[topic]
        except (KeyError, TypeError):
            known = ", ".join(sorted(self.topics)) or "none"
            raise UnknownTopicError(
                f"topic {shown(topic)} is not declared (declared are: {known}); write app.topic(name, retention='7d')"
            ) from None

    def _event(self, topic: str, payload: Any, key: str | None) -> OutgoingEvent:
        declared = self._declared(topic)
        data = serialization.dumps(payload, f"an event of {topic}")
        return OutgoingEvent(self.keys.topic(topic), declared.limits, check_key(key) or "", data)

    def _events(self, topic: str, payloads: Iterable[Any], key: KeyOf | None) -> list[OutgoingEvent]:
        declared, keys = self._declared(topic), self.keys.topic(topic)
        limits, what = declared.limits, f"an event of {topic}"
        if key is not None:
            check_function(key, "key, which tells the key of each payload,")
        return [
            OutgoingEvent(
                keys, limits, check_key(key(each)) or "" if key is not None else "", serialization.dumps(each, what)
            )
            for each in check_items(payloads, "payloads")
        ]

    @abstractmethod
    def register(
        self,
        function: Callable[..., Any],
        *,
        name: str | None,
        bind: bool,
        settings: Mapping[str, Any],
        group_queue: str | None = None,
    ) -> BaseTask[Any, Any]: ...
