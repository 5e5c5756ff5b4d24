"""The data model: every Redis key of taskq, what it holds and how long it lives.

``ns`` is the namespace (``taskq``), ``q`` a queue. The braces are literal: they make all keys of one queue share
a Redis Cluster slot, so that one script can change them together.

===========================  ======  =================================================  ========================
key                          type    content                                            life
===========================  ======  =================================================  ========================
``ns:{q}:stream:<level>``    stream  messages to run: ``m`` the message, ``c`` crashes  entry deleted by settle
``ns:{q}:levels``            set     priority levels in use besides the default         kept (at most 9)
``ns:{q}:delayed``           zset    due ms (Redis's clock): level digit and message    until promoted
``ns:{q}:dead``              stream  dead letters: message, evidence, fingerprint       until replayed or purged
``ns:{q}:dead:groups``       hash    kind -> how many, latest, its label; what is passed    until the last is gone
``ns:{q}:dead:runs``         zset    id of a replay -> when it began, ms                TTL (the latest 100)
``ns:{q}:dead:run:<id>``     hash    what a replay was, how many came back and ended    TTL
``ns:{q}:consumers``         zset    consumer -> lease deadline ms (Redis's clock)      removed at stop
``ns:{q}:renewed``           string  ms of any lease's last renewal; graces in a row        TTL
``ns:{q}:producer:<id>``     string  last sequence number accepted from a producer      TTL
``ns:{q}:sent:<task id>``    string  marks a task id given by the user as used          TTL
``ns:{q}:claim:<task>:<k>``  string  idempotency key of a task -> task id that has it   TTL
``ns:{q}:stored:<worker>``   string  number of its last at-most-once outcome stored     TTL
``ns:{q}:last:<task>:<k>``   zset    a key's last sequence number, see ``ctx.newer``     TTL
``ns:{q}:result:<task id>``  string  state letter, then the packed outcome              TTL
``ns:{q}:waiting``           hash    task id -> channels of the clients waiting for it  TTL, or when it ends
``ns:{q}:revoked``           zset    task id -> forget-after ms                         TTL, or when it is met
``ns:{q}:permits:<task>``    zset    starts of a task with a rate limit -> ms            TTL
``ns:{q}:parked:<task>``     list    its messages that wait for a permit, with crashes  until moved back
``ns:{q}:limited``           set     tasks that have parked messages                    while there are some
``ns:{q}:mover:<task>``      string  which worker moves parked messages back            TTL
``ns:{q}:paused``            string  since when (epoch ms) nothing of it is delivered     until resumed
``ns:{q}:job:<name>``        hash    a batch job: position, window, cursor, user state  kept (one per job)
``ns:{q}:totals``            hash    ``<state>:<task>`` -> deliveries that ended        TTL
``ns:{q}:history``           hash    minute modulo 120 -> the minute and its sums       TTL
``ns:{q}:ended:well``        list    the latest that succeeded, a sample, for views     TTL (the latest 200)
``ns:{q}:ended:otherwise``   list    the latest that ended in any other way             TTL (the latest 200)
``ns:worker:<consumer>``     string  what a worker says of itself, for views            TTL (6 h), or when it stops
``ns:{q}:schedule:<name>``   hash    a schedule's revision, last fire time, pause       kept, until it is removed
``ns:{q}:fires:<name>``      stream  what became of its last fire times, for views      kept, until it is removed
``ns:{q}:held:<name>``       list    level digit, task id, newline, message: see below  until the one before ended
``ns:{q}:holding``           set     schedules that hold messages back                  while there are some
``ns:{schedules}:defined``   hash    schedule -> its definition                         kept, until it is removed
``ns:{schedules}:revision``  hash    schedule -> number and hash of its definition      kept, until it is removed
``ns:{schedules}:number``    string  last revision number given out                     kept
``ns:{schedules}:changes``   stream  revision number -> the schedule it is for          kept (the latest 1,000)
``ns:{schedules}:seen``      hash    schedule -> ms when a beat last had its code       kept, until it is removed
``ns:{schedules}:beats``     zset    beat -> lease deadline ms (Redis's clock)          TTL, or when it stops
``ns:{q}:lanes``             hash    messages not ended of each ordering key in use     until they have ended
``ns:{q}:lane:<key>``        list    messages behind that of their key in the queue     until it is their turn
``ns:audit``                 stream  who did what to queues and messages                TTL (the latest 10,000)
``ns:queues``                set     names of the queues ever used, for views           kept
``ns:{t/}:events``           stream  events: ``m`` payload, ``n`` ordinal, ``k`` key    dropped by retention
``ns:{t/}:topic``            hash    total, limits, and the position of each group      kept (one per topic)
``ns:{t/}:sent:<id>``        string  marks an event of an outbox as published           TTL
``ns:topics``                set     names of the topics ever used, for views           kept
===========================  ======  =================================================  ========================

Level ``front`` holds what was handed back or taken over, and what was taken past messages that had to stay; it is read
before every priority.

In ``consumers``, a name that begins with ``!`` and has score 0 marks a worker whose deliveries are being taken over.

``t`` is a topic. A group ``g`` of it has a queue named ``t/g``, whose keys begin with ``ns:{t/}:g:`` where those of
other queues begin with ``ns:{q}:``: so one script can move events from the topic into the queue.

A FIFO ``f`` is the queue ``fifo:f``; its items are messages of the task ``taskq.item``.

In ``schedule:<name>``: ``revision`` the number of the one revision that may fire, ``fired`` its last fire time (ms),
``at`` and ``late`` when that happened and how late (ms), ``paused``, ``moved`` when it has left this queue,
``message`` the task id of its last message while ``overlap`` must know, ``keep`` the length of its history.
``held:<name>`` has the messages that ``overlap="queue"`` holds back until the message before them has ended.

Channels: ``ns:{q}:wake`` tells workers of an earlier delayed head, a new level, a revocation, a pause or a parked
message; ``ns:{t/}:published`` wakes a topic's dispatchers; ``ns:{schedules}:wake`` tells beats that a definition or a
pause has changed; ``ns:broadcast:<name>`` carries live broadcasts; ``ns:client:<id>`` carries results to the client
that waits for them. Channels belong to the whole server, not to a database of it: in database 3 the names of all of
them end in ``@3``; in database 0 nothing is added.
"""

from __future__ import annotations

from functools import lru_cache

GROUP = b"taskq"
"""The consumer group of every queue's streams."""
FRONT = "front"


def _channel(name: bytes, db: int) -> bytes:
    """The name of a channel in database *db*, for what is published there must not be heard in another."""
    return b"%s@%d" % (name, db) if db else name


class QueueKeys:
    """The keys of one queue."""

    __slots__ = (
        "claim_prefix",
        "consumers",
        "dead",
        "dead_groups",
        "dead_run_prefix",
        "dead_runs",
        "delayed",
        "ended_otherwise",
        "ended_well",
        "fires_prefix",
        "held_prefix",
        "history",
        "holding",
        "job_prefix",
        "lane_prefix",
        "lanes",
        "last_prefix",
        "levels",
        "limited",
        "mover_prefix",
        "parked_prefix",
        "paused",
        "permits_prefix",
        "prefix",
        "producer_prefix",
        "queue",
        "renewed",
        "result_prefix",
        "revoked",
        "schedule_prefix",
        "sent_prefix",
        "stream_prefix",
        "totals",
        "waiting",
        "wake",
    )

    def __init__(self, namespace: str, queue: str, db: int = 0) -> None:
        topic, slash, group = queue.partition("/")
        prefix = f"{namespace}:{{{topic}/}}:{group}:".encode() if slash else f"{namespace}:{{{queue}}}:".encode()
        self.prefix = prefix
        """What all of its keys begin with."""
        self.queue = queue
        self.claim_prefix = prefix + b"claim:"
        self.consumers = prefix + b"consumers"
        self.dead = prefix + b"dead"
        self.dead_groups = prefix + b"dead:groups"
        self.dead_run_prefix = prefix + b"dead:run:"
        self.dead_runs = prefix + b"dead:runs"
        self.delayed = prefix + b"delayed"
        self.ended_otherwise = prefix + b"ended:otherwise"
        self.ended_well = prefix + b"ended:well"
        self.fires_prefix = prefix + b"fires:"
        self.held_prefix = prefix + b"held:"
        self.holding = prefix + b"holding"
        self.history = prefix + b"history"
        self.lane_prefix = prefix + b"lane:"
        self.lanes = prefix + b"lanes"
        self.last_prefix = prefix + b"last:"
        self.job_prefix = prefix + b"job:"
        self.levels = prefix + b"levels"
        self.limited = prefix + b"limited"
        self.mover_prefix = prefix + b"mover:"
        self.parked_prefix = prefix + b"parked:"
        self.permits_prefix = prefix + b"permits:"
        self.paused = prefix + b"paused"
        self.producer_prefix = prefix + b"producer:"
        self.renewed = prefix + b"renewed"
        self.result_prefix = prefix + b"result:"
        self.revoked = prefix + b"revoked"
        self.schedule_prefix = prefix + b"schedule:"
        self.sent_prefix = prefix + b"sent:"
        self.stream_prefix = prefix + b"stream:"
        self.totals = prefix + b"totals"
        self.waiting = prefix + b"waiting"
        self.wake = _channel(prefix + b"wake", db)

    def stream(self, level: int | str) -> bytes:
        """The stream of one level: a priority 0 to 9, or :data:`FRONT`."""
        return self.stream_prefix + str(level).encode()

    def producer(self, producer_id: bytes) -> bytes:
        """Where the last sequence number of one producer connection is kept."""
        return self.producer_prefix + producer_id

    def result(self, task_id: str) -> bytes:
        """Where the outcome of one message is kept."""
        return self.result_prefix + task_id.encode()

    def dead_run(self, run: str) -> bytes:
        """The record of one replay."""
        return self.dead_run_prefix + run.encode()

    def sent(self, task_id: str) -> bytes:
        """The mark that a user-given task id is in use."""
        return self.sent_prefix + task_id.encode()

    def stored(self, worker: bytes) -> bytes:
        """What tells whether an outcome of *worker* is stored that has no entry any more."""
        return self.prefix + b"stored:" + worker

    def claim(self, task: str, key: str) -> bytes:
        """Which message of *task* has an idempotency key."""
        return self.claim_prefix + f"{task}:{key}".encode()

    def job(self, name: str) -> bytes:
        """How far a batch job has come."""
        return self.job_prefix + name.encode()

    def permits(self, task: str) -> bytes:
        """The starts of *task*, by which its rate limit is kept."""
        return self.permits_prefix + task.encode()

    def parked(self, task: str) -> bytes:
        """The messages of *task* that wait for a permit."""
        return self.parked_prefix + task.encode()

    def mover(self, task: str) -> bytes:
        """Who moves the parked messages of *task*."""
        return self.mover_prefix + task.encode()

    def schedule(self, name: str) -> bytes:
        """The state of one schedule."""
        return self.schedule_prefix + name.encode()

    def fires(self, name: str) -> bytes:
        """What became of the last fire times of one schedule."""
        return self.fires_prefix + name.encode()

    def held(self, name: str) -> bytes:
        """The messages of one schedule that wait for the one before them."""
        return self.held_prefix + name.encode()

    def last(self, task: str, key: str) -> bytes:
        """The last sequence number that *task* has done of *key*."""
        return self.last_prefix + f"{task}:{key}".encode()


class TopicKeys:
    """The keys of one topic."""

    __slots__ = ("events", "producer_prefix", "published", "queue", "sent_prefix", "state", "topic")

    def __init__(self, namespace: str, topic: str, db: int = 0) -> None:
        prefix = f"{namespace}:{{{topic}/}}:".encode()
        self.topic = topic
        self.queue = f"{topic}/"
        """What the names of its groups' queues begin with; no queue has it as its name."""
        self.events = prefix + b"events"
        self.producer_prefix = prefix + b"producer:"
        self.published = _channel(prefix + b"published", db)
        self.sent_prefix = prefix + b"sent:"
        self.state = prefix + b"topic"

    def producer(self, producer_id: bytes) -> bytes:
        """Where the last sequence number of one producer connection is kept."""
        return self.producer_prefix + producer_id


class ScheduleKeys:
    """The keys of the definitions of all schedules of a namespace."""

    __slots__ = ("beats", "changes", "confirmed", "definitions", "number", "revisions", "wake")

    def __init__(self, namespace: str, db: int = 0) -> None:
        prefix = f"{namespace}:{{schedules}}:".encode()
        self.beats = prefix + b"beats"
        self.changes = prefix + b"changes"
        self.confirmed = prefix + b"seen"
        self.definitions = prefix + b"defined"
        self.number = prefix + b"number"
        self.revisions = prefix + b"revision"
        self.wake = _channel(prefix + b"wake", db)


class Keys:
    """The keys of one namespace.

    Args:
        namespace: first part of every key.
        db: number of the Redis database, which channels must carry: they are those of the whole server.
    """

    def __init__(self, namespace: str, db: int = 0) -> None:
        self.namespace = namespace
        self._db = db
        self.audit = f"{namespace}:audit".encode()
        self.queues = f"{namespace}:queues".encode()
        self.topics = f"{namespace}:topics".encode()
        self.schedules = ScheduleKeys(namespace, db)
        self.queue = lru_cache(maxsize=4096)(self._queue)
        self.topic = lru_cache(maxsize=4096)(self._topic)

    def _queue(self, name: str) -> QueueKeys:
        return QueueKeys(self.namespace, name, self._db)

    def worker(self, consumer: bytes) -> bytes:
        """What one worker process says of itself."""
        return f"{self.namespace}:worker:".encode() + consumer

    def _topic(self, name: str) -> TopicKeys:
        return TopicKeys(self.namespace, name, self._db)

    def broadcast(self, name: str) -> bytes:
        """The channel of live broadcasts of that name."""
        return _channel(f"{self.namespace}:broadcast:{name}".encode(), self._db)

    def client(self, client_id: str) -> bytes:
        """The channel on which results reach one client process."""
        return _channel(f"{self.namespace}:client:{client_id}".encode(), self._db)
