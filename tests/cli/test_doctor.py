"""``taskq doctor``: on a healthy Redis, on a badly configured one, and on what can go wrong in a namespace."""

from __future__ import annotations

import ast
import json
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner
from support.browser import Browser
from support.process import ROOT
from support.wait import eventually
from support.worker import running_worker

from taskq import TaskFailedError, TaskQ, every
from taskq.beat.beat import Beat
from taskq.broker import keys as data_model
from taskq.broker.calls import LUA
from taskq.broker.views.workers import WorkerRecord, pack_record
from taskq.cli import main
from taskq.dashboard import asgi
from taskq.embedded import EmbeddedRedis
from taskq.observe.doctor import Finding, Severity, examine, foreign, rights

Found = dict[str, Finding]


@pytest.fixture
def look(app: TaskQ) -> Callable[[], Found]:
    """Examines the test's namespace; findings by check, without those about the server itself."""
    return lambda: {
        finding.check: finding for finding in examine(app).findings if not finding.check.startswith("server.")
    }


def doctor(url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(main, ["doctor", "-b", url, "--json", *arguments])
    return result.exit_code, json.loads(result.stdout)


def test_a_healthy_redis(private_redis: Callable[..., EmbeddedRedis]) -> None:
    server = private_redis(extra_args=("--maxmemory", "200mb"))
    app = TaskQ("shop", server.url, namespace="taskq")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    with running_worker(app):
        assert add.delay(1, 2).get(timeout=30) == 3
        code, found = doctor(server.url)
        text = CliRunner().invoke(main, ["doctor", "-b", server.url]).output
    app.close()
    assert (code, found["healthy"], found["findings"]) == (0, True, [])
    assert text.splitlines()[-1] == "healthy: 0 errors, 0 warnings, 0 notes"


def test_a_badly_configured_redis(private_redis: Callable[..., EmbeddedRedis]) -> None:
    bad = ("--maxmemory", "1mb", "--maxmemory-policy", "allkeys-lru", "--timeout", "5")
    server = private_redis(appendonly=False, extra_args=bad)
    code, found = doctor(server.url)
    severities = {finding["check"]: finding["severity"] for finding in found["findings"]}
    assert severities == {
        "server.persistence": "error",
        "server.eviction": "error",
        "server.maxmemory": "error",
        "server.timeout": "warning",
    }
    assert (code, found["healthy"]) == (3, False)
    assert all(finding["remedy"] for finding in found["findings"])
    text = CliRunner().invoke(main, ["doctor", "-b", server.url]).output
    assert "error    server.eviction\n         maxmemory-policy is allkeys-lru" in text


def test_a_user_without_rights(redis_url: str, redis_client: Any) -> None:
    weak = redis_url.replace("redis://", "redis://weak:weak-pw@")
    for rules, checks in (
        (["~taskq:*", "&taskq:*", "+@all", "-xadd", "-xgroup", "-config"], {"rights.commands", "rights.useful"}),
        (["~other:*", "&taskq:*", "+@all"], {"rights.keys"}),
        (["~taskq:*", "resetchannels", "+@all"], {"rights.channels"}),
        (["~taskq:*", "&taskq:*", "+@all", "-multi"], {"rights.unknown"}),
    ):
        redis_client.execute_command("ACL", "SETUSER", "weak", "reset", "on", ">weak-pw", *rules)
        try:
            code, found = doctor(weak)
            about = {
                finding["check"]: finding for finding in found["findings"] if finding["check"].startswith("rights.")
            }
            assert set(about) == checks
            assert code in (1, 3)
            if "rights.commands" in checks:
                assert "may not run XADD, XGROUP CREATE, XGROUP DELCONSUMER" in about["rights.commands"]["reason"]
                assert "ACL SETUSER weak +xadd +xgroup|create" in about["rights.commands"]["remedy"]
            assert "weak-pw" not in json.dumps(found)
        finally:
            redis_client.execute_command("ACL", "DELUSER", "weak")


def test_a_user_who_cannot_open_a_connection_is_told_what_to_grant(redis_url: str, redis_client: Any) -> None:
    redis_client.execute_command("ACL", "SETUSER", "weak", "reset", "on", ">weak-pw", "~*", "&*", "+@all", "-select")
    try:
        code, found = doctor(re.sub(r"/\d+$", "/2", redis_url.replace("redis://", "redis://weak:weak-pw@")))
    finally:
        redis_client.execute_command("ACL", "DELUSER", "weak")
    assert code == 3
    ((check, remedy),) = [(finding["check"], finding["remedy"]) for finding in found["findings"]]
    assert (check, remedy) == ("rights.greeting", "ACL SETUSER weak +select")


@pytest.mark.parametrize("command", ["XADD", "EVAL", "EVALSHA", "XREADGROUP", "SUBSCRIBE", "ZMSCORE"])
def test_a_command_that_was_renamed_is_an_error(private_redis: Callable[..., EmbeddedRedis], command: str) -> None:
    server = private_redis(extra_args=("--rename-command", command, f"hidden-{command}"))
    code, found = doctor(server.url)
    (missing,) = [finding for finding in found["findings"] if finding["check"] == "rights.missing"]
    assert (code, f"does not know {command}:" in missing["reason"]) == (3, True)


@pytest.mark.parametrize("command", ["CLIENT", "CONFIG", "ROLE"])
def test_a_command_that_taskq_can_do_without_is_a_note_and_tasks_run(
    private_redis: Callable[..., EmbeddedRedis], command: str
) -> None:
    server = private_redis(extra_args=("--rename-command", command, f"hidden-{command}"))
    app = TaskQ("shop", server.url, namespace="taskq")
    app.register(lambda: "done", name="do", bind=False, settings={})
    with running_worker(app):
        assert app.send_task("do").get(timeout=30) == "done"
    app.close()
    _, found = doctor(server.url)
    assert any(command in finding["reason"] for finding in found["findings"] if finding["check"] == "rights.useful")
    assert {finding["check"] for finding in found["findings"] if finding["severity"] == "error"} == set()


def test_a_node_of_a_cluster_is_said_so(private_redis: Callable[..., EmbeddedRedis]) -> None:
    server = private_redis(extra_args=("--cluster-enabled", "yes"))
    code, found = doctor(server.url)
    assert code == 3
    assert [finding["check"] for finding in found["findings"]] == ["server.mode"]
    assert "Redis Cluster" in found["findings"][0]["reason"]


def test_every_command_that_is_sent_is_in_the_list_and_no_other(redis_client: Any) -> None:
    """What is text in capitals and a command of Redis's is taken for one that is sent."""
    known = {name.upper() for name in redis_client.command()}
    never_sent = {"AUTH", "READONLY", "TYPE", "UNLINK"}  # needs no right; an error; a column; of the benchmark
    trees = {
        path: ast.parse(path.read_text())
        for path in (ROOT / "taskq").rglob("*.py")
        if path.name not in ("rights.py", "transaction.py")
    }
    sent = {
        node.value
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isupper()
    } & known
    lua = "\n".join(path.read_text() for path in LUA.rglob("*.lua"))
    called = {word for word in re.findall(r"'([A-Z]+)'", lua) if word in known}
    listed = {name.split()[0] for name in {*rights.SHAPES, *rights.USEFUL}} | {"SELECT"}
    assert (sent | called) - never_sent - listed == set()
    assert listed - sent - called == set()
    assert set(rights.SHAPES) - {*rights.needed()} == set()


def test_with_exactly_the_printed_rights_everything_works(
    make_app: Callable[..., TaskQ], redis_url: str, redis_client: Any, namespace: str
) -> None:
    rule = CliRunner().invoke(main, ["doctor", "-b", redis_url, "--namespace", namespace, "--acl"]).stdout
    redis_client.execute_command("ACL", "SETUSER", "exact", "reset", "on", ">pw", *rule.split())
    url = redis_url.replace("redis://", "redis://exact:pw@")
    app = make_app(broker_url=url)
    app.topic("orders")

    @app.task(name="add")
    def add(x: int) -> int:
        return x + 1

    @app.task(name="limited", rate_limit="50/s")
    def limited() -> None: ...

    @app.task(name="fails", max_retries=0)
    def fails() -> None:
        raise ValueError

    @app.subscriber("orders", group="readers")
    def read(event: Any) -> None: ...

    app.schedules.add("often", every(3600), "add", args=[1])
    try:
        stop = threading.Event()
        beat = threading.Thread(target=Beat(app).run, args=(stop,))
        beat.start()
        with running_worker(app):
            assert add.delay(1).get(timeout=30) == 2
            assert add.options(countdown=0.1, priority=8, idempotency_key="two").delay(2).get(timeout=30) == 3
            assert app.send_task("add", (5,), ordering_key="one").get(timeout=30) == 6
            slow = [limited.delay() for _ in range(3)]
            app.publish("orders", {"id": 1})
            failing = fails.delay()
            with pytest.raises(TaskFailedError):
                failing.get(timeout=30)
            app.schedules.run_now("often")
            for each in slow:
                each.get(timeout=30)
            slow[-1].revoke()
            assert app.dlq.replay() == 1
            app.pause("other")
            app.resume("other")
            fifo = app.queue("jobs")
            fifo.put(1)
            with fifo.get(timeout=5) as item:
                assert item.value == 1
            site = asgi.app(app)
            pages = ("/", "/queues", "/workers", "/tasks", "/dlq", "/schedules", "/events", "/limits")
            assert {Browser(site).get(page).status for page in pages} == {200}
            site.close()
        stop.set()
        beat.join(30)
        commands = (
            ["queues"],
            ["workers"],
            ["tasks", "list", "default"],
            ["dlq", "list"],
            ["schedule", "list"],
            ["doctor"],
        )
        for words in commands:
            result = CliRunner().invoke(main, [*words, "-b", url, "--namespace", namespace])
            assert "NOPERM" not in result.output
            assert result.exit_code in (0, 1, 3), result.output
        checks = {finding.check for finding in examine(app).findings}
        assert not {check for check in checks if check.startswith("rights.") or check.endswith(".refused")}
        fifo.close()
    finally:
        app.schedules.remove("often")
        app.dlq.purge()
        app.close()
        redis_client.execute_command("ACL", "DELUSER", "exact")


def test_a_queue_that_nobody_reads(app: TaskQ, look: Any) -> None:
    app.send_task("pay", queue="pay")
    found = look()
    assert "queue pay: 1 messages, and no worker reads it" in found["backlog.unread"].reason
    app.pause("pay")
    assert "backlog.unread" not in (found := look())
    assert "paused since 0.0 h, with 1 messages waiting" in found["backlog.paused"].reason
    app.purge("pay")
    app.resume("pay")


def test_dead_letters(app: TaskQ, look: Any, redis_client: Any) -> None:
    dead = app.keys.queue("default").dead
    redis_client.xadd(dead, {"m": "x", "i": "y"})
    assert look()["backlog.dead"].severity is Severity.NOTE
    with redis_client.pipeline(transaction=False) as many:
        for _ in range(100):
            many.xadd(dead, {"m": "x", "i": "y"})
        many.execute()
    assert look()["backlog.dead"].severity is Severity.WARNING
    redis_client.delete(dead)


def test_leftover_consumers_go_with_fix(app: TaskQ, redis_client: Any, redis_url: str, namespace: str) -> None:
    stream = app.keys.queue("default").stream(5)
    redis_client.sadd(app.keys.queues, "default")
    redis_client.xgroup_create(stream, "taskq", "0", mkstream=True)
    redis_client.xgroup_createconsumer(stream, "taskq", "gone:1:a")
    redis_client.xgroup_createconsumer(stream, "taskq", "gone:2:b")
    redis_client.xadd(stream, {"m": "x"})
    redis_client.xreadgroup("taskq", "gone:2:b", {stream: ">"})
    found = {finding.check: finding for finding in examine(app).findings}
    assert "1 consumers" in found["consumers.leftover"].reason
    assert "1 deliveries" in found["consumers.orphaned"].reason
    code, answer = doctor(redis_url, "--namespace", namespace, "--fix")
    assert [each["check"] for each in answer["findings"] if each["fixed"]] == ["consumers.leftover"]
    assert [row["name"] for row in redis_client.xinfo_consumers(stream, "taskq")] == [b"gone:2:b"]
    assert code == 3, "what it may not fix is left"
    redis_client.delete(stream)


def test_deliveries_that_never_end(app: TaskQ, look: Any, redis_client: Any) -> None:
    keys = app.keys.queue("default")
    redis_client.xgroup_create(keys.stream(5), "taskq", "0", mkstream=True)
    entry = redis_client.xadd(keys.stream(5), {"m": "x"})
    redis_client.xreadgroup("taskq", "slow:1:a", {keys.stream(5): ">"})
    redis_client.xclaim(keys.stream(5), "taskq", "slow:1:a", 0, [entry], idle=2 * 3_600_000)
    redis_client.zadd(keys.consumers, {"slow:1:a": (time.time() + 60) * 1000})
    assert "the longest 2.0 h, at slow:1:a" in look()["consumers.stuck"].reason
    redis_client.zadd(keys.consumers, {"slow:1:a": (time.time() - 60) * 1000})
    assert "none is alive to take over" in look()["consumers.dead"].reason
    redis_client.zadd(keys.consumers, {"slow:1:a": (time.time() + 60) * 1000, "!1dead:2:b": 0})
    assert "consumers.dead" not in look(), "somebody is at it"
    redis_client.zadd(keys.consumers, {"dead:3:c": (time.time() - 600) * 1000})
    assert "one of its workers died" in look()["consumers.dead"].reason
    redis_client.delete(keys.stream(5), keys.consumers)


def test_orphan_keys_and_lost_queues_are_mended(app: TaskQ, look: Any, redis_client: Any) -> None:
    redis_client.set(app.keys.queue("old").result("a"), "S")
    redis_client.zadd(app.keys.queue("old").delayed, {b"5x": 1})
    found = look()
    assert "1 keys that should expire have no TTL (1 result)" in found["contents.orphans"].reason
    assert "old" in found["contents.unlisted"].reason
    for check in ("contents.orphans", "contents.unlisted"):
        found[check].fix()
    assert redis_client.ttl(app.keys.queue("old").result("a")) > 0
    found = look()
    assert not {"contents.orphans", "contents.unlisted"} & set(found)
    redis_client.delete(app.keys.queue("old").delayed)


def test_big_messages(app: TaskQ, look: Any) -> None:
    app.send_task("mail", ("x" * 100_000,), queue="default")
    assert look()["contents.big"].severity is Severity.NOTE
    app.send_task("mail", ("x" * 400_000,), queue="default", countdown=60)
    assert "1 of 2 messages sampled are bigger than 256 KiB" in look()["contents.big"].reason
    assert app.purge("default", delayed=True) == 2


def test_workers_of_different_releases(app: TaskQ, look: Any, redis_client: Any) -> None:
    for number, (version, lease_ms) in enumerate([("0.1", 15_000), ("0.2", 15_000), ("0.2", 30_000)]):
        name = f"host:{number}:a".encode()
        redis_client.zadd(app.keys.queue("default").consumers, {name: (time.time() + 60) * 1000})
        record = WorkerRecord("shop", "host", number, version, "3.11", "threads", ["default"], 0, 0, lease_ms)
        redis_client.set(app.keys.worker(name), pack_record(record), ex=60)
    found = look()
    assert "1 with 0.1, 2 with 0.2" in found["fleet.versions"].reason
    assert "15 s, 30 s" in found["fleet.leases"].reason
    redis_client.delete(app.keys.queue("default").consumers)


def test_tasks_that_no_worker_knows(make_app: Callable[..., TaskQ], app: TaskQ, look: Any) -> None:
    other = make_app(unknown_task_delay=60)
    with running_worker(other):
        for _ in range(3):
            other.send_task("shop.renamed")
        found = eventually(lambda: look().get("backlog.unknown"), 20)
    assert "3 of 3 delayed messages" in eventually(lambda: look()["backlog.unknown"].reason, 20)
    assert (found.severity, "shop.renamed" in found.reason) == (Severity.WARNING, True)
    app.purge("default", delayed=True)


def test_the_types_of_the_data_model_are_those_that_are_looked_for() -> None:
    table = re.findall(r"^``ns:(\S.*?)``\s+(\w+)\s", data_model.__doc__ or "", flags=re.M)
    known = {key: kind for kind, keys in foreign.TYPES.items() for key in keys}
    assert {re.sub(r"<.*", "", key): kind for key, kind in table} == known


def test_what_somebody_else_wrote_under_our_names(app: TaskQ, look: Any, redis_client: Any, namespace: str) -> None:
    app.send_task("add")
    redis_client.sadd(app.keys.queues, "default", "orders/readers")
    keys = [app.keys.queue("orders/readers").stream(5), app.keys.queue("q").dead_groups, app.keys.schedules.beats]
    for key in keys:
        redis_client.set(key, "x")
    redis_client.sadd(app.keys.queue("default").levels, "-5", "7", "nan")
    found = look()
    assert found["foreign.type"].severity is Severity.ERROR
    for key in keys:
        assert key.decode() in found["foreign.type"].reason
    assert "default: 2 names that are not priority levels" in found["foreign.levels"].reason
    redis_client.delete(*keys, app.keys.queue("default").levels)
    assert not {check for check in look() if check.startswith("foreign.")}
    app.purge("default")


def test_two_apps_on_one_queue(app: TaskQ, look: Any, redis_client: Any) -> None:
    keys = app.keys.queue("default")
    redis_client.sadd(app.keys.queues, "default")
    for name in ("shop", "mails"):
        record = WorkerRecord(name, "h", 1, "0", "3", "threads", ["default"], 1, 1, 1000)
        redis_client.zadd(keys.consumers, {name: 9e15})
        redis_client.set(app.keys.worker(name.encode()), pack_record(record), px=60_000)
    assert "mails, shop all read default" in look()["fleet.apps"].reason
    redis_client.delete(keys.consumers)


def test_schedules_without_a_beat(app: TaskQ, look: Any, redis_client: Any) -> None:
    keys = app.keys.schedules
    redis_client.hset(keys.definitions, "nightly", "{}")
    assert "1 schedules are defined, and no beat is alive" in look()["fleet.beat"].reason
    redis_client.zadd(keys.beats, {"beat": (time.time() + 60) * 1000})
    assert "fleet.beat" not in look()
    redis_client.delete(keys.definitions, keys.beats)


def test_a_look_writes_nothing(app: TaskQ, redis_client: Any) -> None:
    app.send_task("pay", queue="default")
    before = redis_client.info("stats")["total_commands_processed"], redis_client.info("persistence")
    examine(app)
    after = redis_client.info("stats")["total_commands_processed"], redis_client.info("persistence")
    assert after[1]["rdb_changes_since_last_save"] == before[1]["rdb_changes_since_last_save"]
    assert after[0] - before[0] < 400, "a bounded number of commands"
    app.purge("default")


def test_no_redis_is_an_exit_code_of_its_own() -> None:
    result = CliRunner().invoke(main, ["doctor", "-b", "redis://localhost:1/0"], env={"TASKQ_BROKER_DEADLINE": "0.1"})
    assert result.exit_code == 69
