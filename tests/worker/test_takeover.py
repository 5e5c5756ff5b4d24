"""A supervised worker that dies: what it held is back in its queue at once, and it is started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.process import Proc
from support.wait import eventually

from taskq import TaskQ
from taskq.broker import scripts
from taskq.broker.keeper import consumer_name, is_of_family, next_name
from taskq.broker.scripts.settling import settle
from taskq.worker.process.supervisor import GIVE_UP_AFTER
from taskq.worker.process.takeover import take_over

SHOP = """
import asyncio, os, time
from taskq import TaskQ

app = TaskQ("shop", lease_timeout=60)

@app.task(name="hold")
def hold(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\\n")
    while not os.path.exists(path + ".go"):
        time.sleep(0.005)

@app.task(name="ahold")
async def ahold(path):
    with open(path, "a") as file:
        file.write(f"{os.getpid()} {time.monotonic()}\\n")
    while not os.path.exists(path + ".go"):
        await asyncio.sleep(0.005)
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
        app.sync_broker.run(settle(keys, streams, name, 1))
    assert take_over(app, ["default"], "aaaaaaaa") == 1
    assert take_over(app, ["default"], "aaaaaaaa") == 0
    assert app.sync_broker.execute("ZRANGE", keys.consumers, 0, -1) == [names[1]]
    assert app.sync_broker.execute("XLEN", streams[0]) == 1
    take_over(app, ["default"], "bbbbbbbb")
    app.sync_broker.execute("DEL", *streams)


@pytest.mark.parametrize("name", ["hold", "ahold"])
def test_a_dead_members_message_runs_again_at_once_in_a_process_of_its_own(
    spawn: Callable[..., Proc],
    make_app: Callable[..., TaskQ],
    redis_url: str,
    namespace: str,
    tmp_path: Path,
    name: str,
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    environment = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}
    flags = ("-A", "shop:app", "-w", "2", "-c", "2", "-Q", "default")
    supervisor = spawn("-m", "taskq", "worker", *flags, env=environment)
    app, ran = make_app(), tmp_path / "ran"
    result = app.send_task(name, (str(ran),))

    def lines() -> list[list[str]]:
        return [line.split() for line in ran.read_text().splitlines()] if ran.exists() else []

    eventually(lambda: len(lines()) == 1)
    consumers = app.keys.queue("default").consumers
    eventually(lambda: len(app.sync_broker.execute("ZRANGE", consumers, 0, -1)) == 2)
    died = time.monotonic()
    os.kill(int(lines()[0][0]), signal.SIGKILL)
    eventually(lambda: len(lines()) == 2, timeout=40)
    # the lease lasts for a minute; on an idle machine this is half a second, for a child process must be started
    assert float(lines()[1][1]) - died < 40
    names = app.sync_broker.execute("ZRANGE", consumers, 0, -1)
    assert lines()[1][0] not in {name.decode().split(":")[1] for name in names}, "not in a worker"
    (tmp_path / "ran.go").touch()
    result.get(timeout=30)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait() == 0, supervisor.output()
    assert "1 messages are back in their queues" in supervisor.output()


DEATHS = """
import os, signal, sys, time
from taskq.worker.process import supervisor

def target(index, parent, slate, family):
    if sys.argv[1] == "worked":
        slate[index] = time.monotonic()
    os._exit(3)

def ended(pid, family):
    deaths.append(family)
    if len(deaths) > supervisor.GIVE_UP_AFTER:
        os.kill(os.getpid(), signal.SIGTERM)

if __name__ == "__main__":
    deaths = []
    supervisor.RESTART_PAUSES = supervisor.WORKED_PAUSES = (0.0,)
    supervisor.Supervisor(target, (), 1, ended).run()
    print(len(deaths), "deaths of", len(set(deaths)), "families")
"""


@pytest.mark.parametrize(("when", "deaths"), [("worked", GIVE_UP_AFTER + 1), ("at the start", GIVE_UP_AFTER)])
def test_a_supervisor_gives_up_over_workers_that_never_start_and_not_over_those_that_worked(
    spawn: Callable[..., Proc], tmp_path: Path, when: str, deaths: int
) -> None:
    (tmp_path / "deaths.py").write_text(DEATHS)
    process = spawn("deaths.py", when)
    assert process.wait(60) == 0, process.output()
    assert f"{deaths} deaths of {deaths} families" in process.output()
