"""Replaying, editing, purging and moving dead letters; the records that this leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.wait import eventually
from support.worker import run_async, run_burst, running_worker

from taskq import Event, TaskFailedError, TaskQ, TaskState
from taskq.client.dlq import transfer
from taskq.client.dlq.pace import Pace, per_second
from taskq.errors import (
    ArgumentsError,
    ConfigError,
    DeadLetterNotFoundError,
    ImportFormatError,
    SerializationError,
    UnknownQueueError,
    UnknownTaskError,
)
from taskq.values.message import decode

Bury = Callable[..., str]


def waiting(redis_client: Any, app: TaskQ, queue: str = "default") -> list[str]:
    """The ids of the messages in a queue, which are removed."""
    stream = app.keys.queue(queue).stream(5)
    entries = redis_client.xrange(stream)
    if entries:
        redis_client.xdel(stream, *(entry for entry, _ in entries))
    return [decode(fields[b"m"]).task_id for _, fields in entries]


def test_a_replay_leaves_a_record_of_how_it_ended(app: TaskQ) -> None:
    @app.task(max_retries=0)
    def divide(by: int) -> float:
        if by == 1:
            raise KeyError("another way")
        return 1 / (by % 7)

    with running_worker(app):
        results = [divide.delay(by) for by in (0, 7, 1)]
        for result in results:
            with pytest.raises(TaskFailedError):
                result.get(timeout=30)
        assert app.dlq.replay([results[0].id], actor="ann") == 1
        app.dlq.edit(results[1].id, [3], actor="bob")
        assert results[1].get(timeout=30) == 1 / 3
        eventually(lambda: len(app.dlq.list()) == 2 and app.dlq.runs()[1].total.ended == 1)
    edit, replay = app.dlq.runs()
    assert (replay.actor, replay.where, replay.state) == ("ann", results[0].id, "done")
    assert (replay.total.replayed, replay.total.again, replay.total.succeeded) == (1, 1, 0)
    assert (edit.actor, edit.total.succeeded, edit.total.ended) == ("bob", 1, 1)
    said = [(record.actor, record.action, record.target) for record in app.audit.read()]
    assert said == [("bob", "dlq.edit", "default"), ("ann", "dlq.replay", "*")]
    detail = app.audit.read(1)[0].detail
    assert (detail["before"], detail["after"], detail["run"]) == ([[7], {}], [[3], {}], edit.id)
    assert app.audit.read(1, before=app.audit.read(1)[0].id)[0].actor == "ann"
    assert app.dlq.purge() == 2


def test_the_history_survives_replays_and_edits(app: TaskQ) -> None:
    @app.task(max_retries=1, retry_backoff=0.001)
    def fail(why: str) -> None:
        raise ValueError(why)

    with running_worker(app):
        result = fail.delay("one")
        with pytest.raises(TaskFailedError):
            result.get(timeout=30)
        app.dlq.edit(result.id, ["two"], actor="ann")
        eventually(lambda: result.status is TaskState.FAILURE)
        app.dlq.replay()
        eventually(lambda: result.status is TaskState.FAILURE)
    (letter,) = app.dlq.list()
    told = [(f.replay, f.attempt, f.error, f.final) for f in letter.failures]
    assert told == [
        (0, 1, "one", False),
        (0, 2, "one", True),
        (1, 1, "two", False),
        (1, 2, "two", True),
        (2, 1, "two", False),
        (2, 2, "two", True),
    ]
    assert [(edit.actor, edit.args) for edit in letter.edits] == [("ann", ["one"])]
    assert letter.replays == 2
    assert app.dlq.purge() == 1


def test_an_edit_is_checked_before_anything_is_written(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    entry = bury("one")
    app.dlq.edit("one", [2])  # an app without tasks cannot tell
    entry = bury("one")

    @app.task(name="shop.pay")
    def pay(amount: int, *, note: str = "") -> None: ...

    before = app.dlq.list()
    for args, kwargs, error in (
        ([], None, ArgumentsError),
        ([1], {"notes": ""}, ArgumentsError),
        ([object()], None, SerializationError),
    ):
        with pytest.raises(error):
            app.dlq.edit(entry, args, kwargs)
    with pytest.raises(UnknownQueueError):
        app.dlq.edit(entry, [2], to="nowhere")
    with pytest.raises(DeadLetterNotFoundError):
        app.dlq.edit("nobody", [2])
    other = bury("two", task="shop.ship")
    with pytest.raises(UnknownTaskError):
        app.dlq.edit(other, [2])
    bad = redis_client.xadd(app.keys.queue("default").dead, {"m": b"?", "i": b"?"}).decode()
    with pytest.raises(ConfigError, match="not a message"):
        app.dlq.edit(bad, [2])
    assert app.dlq.list()[:1] == before
    app.dlq.edit(entry, [5], {"note": "x"})
    assert waiting(redis_client, app) == ["one", "one"]
    assert app.dlq.purge() == 2


def test_of_an_event_only_the_payload_is_edited(app: TaskQ) -> None:
    app.topic("orders")
    seen: list[tuple[int, Any]] = []

    @app.subscriber("orders", group="stock", max_retries=0)
    def take(event: Event) -> None:
        seen.append((event.ordinal, event.payload["count"] + 0))

    queue = "orders/stock"
    with running_worker(app):
        eventually(lambda: app.events.groups("orders"))
        app.publish("orders", {"count": "one"}, key="ann")
        (letter,) = eventually(lambda: app.dlq.list(queue))
        assert letter.message is not None
        id_, ordinal, key, _ = letter.message.args[0]
        for args, kwargs in (
            ([{"count": 1}], None),
            ([[id_, ordinal, key]], None),
            ([[id_, ordinal + 1, key, {"count": 1}]], None),
            ([[id_, ordinal, "bob", {"count": 1}]], None),
            ([], None),
            (None, {"count": 1}),
        ):
            with pytest.raises(ArgumentsError, match=r'only the payload may change; .*"ann", PAYLOAD'):
                app.dlq.edit(letter.entry, args, kwargs, queue=queue)
        assert (app.dlq.count(queue), app.dlq.runs(queue), app.audit.read()) == (1, [], [])
        app.dlq.edit(letter.entry, [[id_, ordinal, key, {"count": 1}]], queue=queue)
        eventually(lambda: seen == [(1, 1)])


def test_what_is_not_there_is_said_before_anything_is_replayed(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    entry = bury("one")
    bad = redis_client.xadd(app.keys.queue("default").dead, {"m": b"?", "i": b"?"}).decode()
    for call, error in (
        (lambda: app.dlq.replay([entry, "1-1"]), DeadLetterNotFoundError),
        (lambda: app.dlq.purge([entry, "gone"]), DeadLetterNotFoundError),
        (lambda: app.dlq.replay([entry, bad]), ConfigError),
        (lambda: app.dlq.replay(queue="defualt"), UnknownQueueError),
        (lambda: app.dlq.replay(to="nowhere"), UnknownQueueError),
        (lambda: app.dlq.replay(rate="fast"), ConfigError),
    ):
        with pytest.raises(error):
            call()
    redis_client.xdel(app.keys.queue("default").dead, bad)
    with pytest.raises(UnknownTaskError, match=r"tasks that have some: shop\.pay"):
        app.dlq.replay(task="shop.pya")
    assert app.dlq.count() == 1
    assert app.dlq.runs() == []
    assert app.dlq.replay(dry_run=True) == app.dlq.count() == 1
    assert app.dlq.purge(dry_run=True) == 1
    assert app.dlq.replay([entry, "one", "1-1"], skip_missing=True) == 1
    assert waiting(redis_client, app) == ["one"]


def test_a_replay_to_another_queue(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    bury("a", "b", "c")
    redis_client.sadd(app.keys.queues, "slow")
    letter = app.dlq.list()[0]
    # one that died between its two steps
    from taskq.broker import scripts
    from taskq.client.dlq.replay import identity
    from taskq.client.dlq.revive import revived

    app.sync_broker.run(scripts.relay(app.keys.queue("slow"), (identity(letter), "5", "", revived(letter, "run"))))
    assert app.dlq.replay(to="slow") == 3
    assert waiting(redis_client, app, "slow") == ["a", "b", "c"]
    assert waiting(redis_client, app) == []
    (run,) = app.dlq.runs("default")
    assert (run.to, run.total.replayed) == ("slow", 3)
    assert app.dlq.groups() == []


def test_endings_in_another_queue_are_counted_too(app: TaskQ, bury: Bury) -> None:
    @app.task(name="shop.pay", queue="slow")
    def pay(amount: int) -> None: ...

    bury("a", "b")
    app.dlq.replay(to="slow")
    run_burst(app)
    eventually(lambda: app.dlq.runs("default")[0].total.ended == 2)
    total = app.dlq.runs("default")[0].total
    assert (total.succeeded, total.failed) == (2, 0)


def test_at_most_once_endings_are_counted_too(app: TaskQ, bury: Bury) -> None:
    @app.task(name="shop.pay", delivery="at_most_once")
    def pay(amount: int) -> None:
        if amount:
            raise ValueError("no")

    bury("a", args=(0,))
    bury("b", args=(1,))
    app.dlq.replay()
    with running_worker(app):
        eventually(lambda: app.dlq.runs()[0].total.ended == 2)
    total = app.dlq.runs()[0].total
    assert (total.succeeded, total.failed) == (1, 1)
    assert app.dlq.purge() == 1


def test_the_rate_is_kept(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    assert [per_second(rate) for rate in (100, "100/s", "30/m", " 36 / h", "5")] == [100, 100, 0.5, 0.01, 5]
    for bad in ("fast", "0", "-1/s", 0, float("inf"), True, "5/y"):
        with pytest.raises(ConfigError):
            per_second(bad)
    assert (Pace(None, 500).page, Pace(100, 500).page, Pace(1, 500).page, Pace(1e6, 500).page) == (500, 10, 1, 500)
    bury(*(f"t{n}" for n in range(25)))
    told: list[int] = []
    assert app.dlq.replay(rate=100, progress=told.append) == 25
    assert told == [10, 20, 25]
    assert len(waiting(redis_client, app)) == 25


def test_export_and_import_keep_every_byte(app: TaskQ, bury: Bury, redis_client: Any, tmp_path: Path) -> None:
    dead = app.keys.queue("default").dead
    bury("a", args=("x", b"\xff"))
    redis_client.xadd(dead, {"m": b"\x00\xffno message", "i": b"\xc1"})
    bury("b", queue="events/mail")
    before = {queue: redis_client.xrange(app.keys.queue(queue).dead) for queue in ("default", "events/mail")}
    file = tmp_path / "dead.jsonl"
    assert app.dlq.export_to(file) == 3
    assert app.dlq.import_from(file) == (0, 3)  # they are still there
    groups = app.dlq.groups("events/mail")
    assert app.dlq.purge() == 3
    assert app.dlq.import_from(file) == (3, 0)
    assert app.dlq.import_from(file) == (0, 3)
    for queue, entries in before.items():
        after = redis_client.xrange(app.keys.queue(queue).dead)
        assert [(f[b"m"], f[b"i"]) for _, f in after] == [(f[b"m"], f[b"i"]) for _, f in entries]
    assert app.dlq.groups("events/mail")[0].fingerprint == groups[0].fingerprint
    assert app.dlq.export_to(tmp_path / "one.jsonl", queue="events/mail", task="shop.pay") == 1
    assert app.dlq.replay(["a"]) == 1
    assert app.dlq.import_from(file, queue="default") == (1, 2)  # "b" goes elsewhere; "a" was imported before
    assert app.dlq.purge() == 3
    assert waiting(redis_client, app) == ["a"]


def test_an_export_is_whole_or_not_there(
    app: TaskQ, bury: Bury, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury("a", "b")
    file = tmp_path / "dead.jsonl"
    file.write_text("as it was")
    link = tmp_path / "link"
    link.symlink_to(file)

    def interrupted(part: Any, letters: Any) -> int:
        part.write("half a line")
        part.flush()
        assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".jsonl", ".part"]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "write_lines", interrupted)
        with pytest.raises(KeyboardInterrupt):
            app.dlq.export_to(link)
    assert (file.read_text(), sorted(tmp_path.iterdir())) == ("as it was", [file, link])
    assert app.dlq.export_to(link) == 2
    assert link.is_symlink()
    assert len(file.read_text().splitlines()) == 2
    assert app.dlq.export_to("/dev/null") == 2
    assert Path("/dev/null").is_char_device()
    assert app.dlq.purge() == 2


def test_an_import_keeps_ids_where_it_can(app: TaskQ, bury: Bury, tmp_path: Path, redis_client: Any) -> None:
    entry = bury("a")
    file = tmp_path / "dead.jsonl"
    app.dlq.export_to(file)
    line = json.loads(file.read_text())
    redis_client.delete(app.keys.queue("default").dead, app.keys.queue("default").dead_groups)
    future = {**line, "id": f"{2**63}-1"}
    file.write_text("\n".join(json.dumps(each) for each in (line, future)) + "\n\n")
    assert app.dlq.import_from(file) == (2, 0)
    first, second = (letter.entry for letter in app.dlq.list())
    assert first == entry
    assert not second.startswith(str(2**63))
    assert app.dlq.purge() == 2


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("not json", "not JSON"),
        ([], "must be an object"),
        ({"taskq_dead_letter": 2}, "must be an object"),
        ({"message": "%%%"}, "not base64"),
        ({"message": None}, "line 2"),
        ({"id": "0-0"}, "its id is '0-0'"),
        ({"id": 7}, "its id is 7"),
        ({"queue": "a{b}"}, "a queue's name must be"),
        ({"evidence": ...}, "'evidence' is missing"),
    ],
    ids=str,
)
def test_a_damaged_file_imports_nothing(
    app: TaskQ, bury: Bury, tmp_path: Path, change: Any, text: str, redis_client: Any
) -> None:
    bury("a")
    file = tmp_path / "dead.jsonl"
    app.dlq.export_to(file)
    good = file.read_text()
    line = json.loads(good)
    bad = {k: v for k, v in {**line, **change}.items() if v is not ...} if isinstance(change, dict) else change
    file.write_text(good + (bad if isinstance(bad, str) else json.dumps(bad)) + "\n")
    app.dlq.purge()
    with pytest.raises(ImportFormatError, match="line 2 is not an exported dead letter") as caught:
        app.dlq.import_from(file)
    assert text in str(caught.value)
    assert app.dlq.count() == 0
    assert [record.action for record in app.audit.read()] == ["dlq.purge"]


def test_async_code_does_the_same(app: TaskQ, bury: Bury, redis_client: Any) -> None:
    bury("a", "b", "c")

    async def main() -> None:
        page = await app.dlq.apage(limit=1)
        assert page.next
        letter = await app.dlq.aget("a")
        assert letter == page.letters[0]
        assert [group.count for group in await app.dlq.agroups()] == [3]
        await app.dlq.aedit("b", [7])
        assert await app.dlq.areplay(["a"], queue="default") == 1
        assert await app.dlq.apurge() == 1
        assert len(await app.dlq.aruns()) == 2

    run_async(app, main())
    assert waiting(redis_client, app) == ["b", "a"]


def test_a_file_that_is_no_text_is_no_export(app: TaskQ, tmp_path: Path) -> None:
    file = tmp_path / "dead.jsonl"
    file.write_bytes(b"\x7fELF\xd0\n")
    with pytest.raises(ImportFormatError, match="not UTF-8"):
        app.dlq.import_from(file)


def test_an_id_beyond_what_redis_counts_is_no_dead_letter(app: TaskQ) -> None:
    assert app.dlq.get(f"{2**64}-0") is None
