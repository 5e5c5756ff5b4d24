"""A supervised worker that dies: what it held is back in its queue at once, and it is started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually

from taskq import TaskQ
from taskq.broker import scripts
from taskq.worker.link import consumer_name, is_of_family, next_name
from taskq.worker.supervisor import GIVE_UP_AFTER
from taskq.worker.takeover import take_over

SHOP = """
import os, time
from taskq import TaskQ

app = TaskQ("shop", lease_timeout=60)

@app.task(name="hold")
def hold(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\\n")
    while not os.path.exists(path + ".go"):
        time.sleep(0.005)
"""


def test_names_of_a_family() -> None:
    name = consumer_name("ab12cd34")
    again = next_name(name)
    assert again != name
    assert again.rpartition(b":")[0] == name.rpartition(b":")[0]
    assert is_of_family(name, "ab12cd34")
    assert is_of_family(again, "ab12cd34")
    assert not is_of_family(name, "ffffffff")
    assert not is_of_family(consumer_name(), "")


def test_only_the_familys_deliveries_move(app: TaskQ) -> None:
    keys = app.keys.queue("default")
    streams = scripts.streams_of(keys, [])
    names = [consumer_name("aaaaaaaa"), consumer_name("bbbbbbbb")]
    for name in names:
        app.sync_broker.run(scripts.register(keys, name, 60_000, streams))
        app.send_task("any", (1,))
        app.sync_broker.run(scripts.settle(keys, streams, name, 1))
    assert take_over(app, ["default"], "aaaaaaaa") == 1
    assert take_over(app, ["default"], "aaaaaaaa") == 0
    assert app.sync_broker.execute("ZRANGE", keys.consumers, 0, -1) == [names[1]]
    assert app.sync_broker.execute("XLEN", streams[0]) == 1
    take_over(app, ["default"], "bbbbbbbb")
    app.sync_broker.execute("DEL", *streams)


def test_a_dead_members_message_runs_again_within_a_second(
    spawn: Callable[..., Proc], make_app: Callable[..., TaskQ], redis_url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    flags = ("-A", "shop:app", "-w", "2", "-c", "2", "-Q", "default")
    supervisor = spawn("-m", "taskq", "worker", *flags, env=environment)
    app, ran = make_app(), tmp_path / "ran"
    result = app.send_task("hold", (str(ran),))

    def lines() -> list[list[str]]:
        return [line.split() for line in ran.read_text().splitlines()] if ran.exists() else []

    eventually(lambda: len(lines()) == 1)
    eventually(lambda: len(app.sync_broker.execute("ZRANGE", app.keys.queue("default").consumers, 0, -1)) == 2)
    died = time.monotonic()
    os.kill(int(lines()[0][0]), signal.SIGKILL)
    eventually(lambda: len(lines()) == 2)
    # the lease lasts for a minute; on an idle machine this is some hundredths of a second
    assert float(lines()[1][1]) - died < 5
    (tmp_path / "ran.go").touch()
    result.get(timeout=10)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 0, supervisor.output()
    assert "1 messages are back in their queues" in supervisor.output()


@pytest.mark.slow
def test_a_supervisor_outlives_more_deaths_than_failed_starts_would_allow(
    spawn: Callable[..., Proc], make_app: Callable[..., TaskQ], redis_url: str, namespace: str, tmp_path: Path
) -> None:
    source = SHOP + '\n@app.task(name="die")\ndef die(n):\n    os._exit(3)\n'
    (tmp_path / "shop.py").write_text(source)
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    app: Any = make_app()
    poison = -(-(GIVE_UP_AFTER + 1) // 3)
    for n in range(poison):
        app.send_task("die", (n,))
    flags = ("-A", "shop:app", "-w", "2", "-c", "1", "-Q", "default")
    supervisor = spawn("-m", "taskq", "worker", *flags, env=environment)
    eventually(lambda: len(app.dlq.list()) == poison, timeout=40, message=supervisor.output)
    assert {letter.evidence.crashes for letter in app.dlq.list()} == {3}
    eventually(lambda: len(app.sync_broker.execute("ZRANGE", app.keys.queue("default").consumers, 0, -1)) == 2)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 0, supervisor.output()
    app.dlq.purge()
