"""A namespace in which every text that anybody can choose tries to run as a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from support.worker import run_burst
from taskq import TaskQ
from taskq.broker.views.workers import Running, WorkerRecord, pack_record
from taskq.values.message import WIRE_VERSION, Message, Meta, encode, new_id

CORPUS = (
    "<script>window.pwned='script'</script>",
    "<img src=x onerror=\"window.pwned='img'\">",
    "\"><svg onload=window.pwned='attribute'>",
    "' onmouseover='window.pwned=1' x='",
    "javascript:window.pwned='url'",
    "</title></textarea></pre><script>window.pwned='close'</script>",
    "{{ 7*7 }}{% raw %}${window.pwned=1}",
    "<iframe srcdoc=\"<script>parent.pwned='frame'</script>\">",
    "<b-x hx-get='/queues' hx-trigger='load' hx-on:htmx:load='window.pwned=1'>",
    "\u202e\x00\x1b[31m<script>window.pwned='control'</script>",
    "<base href=//evil.example/>",
    "]]>--><!--<script>window.pwned='comment'</script>",
)


class Haunted(Exception):
    """Its name is changed to a hostile one."""


def fill(app: TaskQ, client: Any) -> list[str]:
    """Put the corpus into every field; returns the task ids that were chosen."""
    ids = []

    def explode(*args: Any, **kwargs: Any) -> None:
        error = type(str(args[0]), (Haunted,), {})
        raise error(f"{args[0]} {kwargs}")

    for n, text in enumerate(CORPUS):
        printable = "".join(char for char in text if char.isprintable())
        name = f"{printable}{n}"
        app.register(explode, name=name, bind=False, settings={"max_retries": 0})
        ids.append(f"{printable}{n}"[:200])
        app.send_task(name, [text], {text: text, "password": "hunter2"}, headers={text: text})
    run_burst(app)
    for n, text in enumerate(CORPUS):
        _message(app, client, text, ids[n])
    _worker(app, client)
    _names(app, client, CORPUS)
    return ids


def _message(app: TaskQ, client: Any, text: str, task_id: str) -> None:
    """One in its queue and one delayed, as another program may have written them: ours refuses some of the names."""
    keys = app.keys.queue("default")
    meta = Meta(headers={text: text})
    waits = Message(WIRE_VERSION, task_id, text, [text, {text: [text]}], {text: text}, meta)
    client.xadd(keys.stream(5), {"m": encode(waits)})
    later = Message(WIRE_VERSION, new_id(), text, [text], {}, meta)
    client.zadd(keys.delayed, {b"5" + encode(later): 4_000_000_000_000})


def _worker(app: TaskQ, client: Any) -> None:
    text = CORPUS[1]
    running = [Running(task=one, id=one, queue=one, started_at=1) for one in CORPUS]
    record = WorkerRecord(
        app=text,
        host=text,
        pid=1,
        version=text,
        python=text,
        pool=text,
        queues=list(CORPUS),
        started_at=1,
        written_at=1,
        lease_ms=1000,
        running=running,
    )
    name = CORPUS[0].replace("/", "")
    keys = app.keys.queue("default")
    client.zadd(keys.consumers, {name: 99999999999999})
    client.set(app.keys.worker(name.encode()), pack_record(record), px=600_000)


def _names(app: TaskQ, client: Any, corpus: Sequence[str]) -> None:
    """Names that our own code would refuse, as another program may have written them."""
    for text in corpus[:4]:
        client.sadd(app.keys.queues, text)
        client.sadd(app.keys.topics, text)
        totals = app.keys.queue("default").totals
        client.hset(totals, f"SUCCESS:{text}", 5)
        client.pexpire(totals, 600_000)
    app.topic("orders")
    client.xadd(app.keys.topic("orders").events, {"p": corpus[0], corpus[1]: corpus[2]})
