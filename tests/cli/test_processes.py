"""``taskq beat`` and ``taskq metrics`` as real processes."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq.broker.keys import Keys
from taskq.errors import ExitCode

Spawn = Callable[..., Proc]

SHOP = """
from taskq.client.app import TaskQ
from taskq.values.schedule import every

app = TaskQ("shop")

@app.periodic(every(0.2))
@app.task
def tick(): ...
"""


@pytest.fixture
def environment(redis_url: str, namespace: str, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "shop.py").write_text(SHOP)
    return {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_beats_fire_until_they_are_stopped(
    spawn: Spawn, environment: dict[str, str], namespace: str, redis_client: Any, number: signal.Signals
) -> None:
    beats = [spawn("-m", "taskq", "beat", "-A", "shop:app", env=environment) for _ in range(2)]
    stream = Keys(namespace).queue("default").stream(5)
    eventually(lambda: redis_client.xlen(stream) >= 3)
    for beat in beats:
        wait_for_line(beat, "schedule shop.tick: every 200ms|schedule shop.tick: every 0.2")
        beat.signal(number)
    assert [beat.wait(30) for beat in beats] == [ExitCode.OK, ExitCode.OK]
    fired = [line for beat in beats for line in beat.output().splitlines() if "fired shop.tick@" in line]
    assert len({line.partition("fired ")[2] for line in fired}) == len(fired) == redis_client.xlen(stream)
    redis_client.delete(stream)


def test_beat_without_redis_ends_with_a_clear_error(spawn: Spawn, environment: dict[str, str]) -> None:
    unreachable = {"TASKQ_BROKER_URL": "redis://:hunter2@127.0.0.1:1/0", "TASKQ_BROKER_DEADLINE": "0.3"}
    beat = spawn("-m", "taskq", "beat", "-A", "shop:app", env=environment | unreachable)
    assert beat.wait() == ExitCode.UNAVAILABLE
    assert "taskq: Redis at" in beat.output()
    assert "hunter2" not in beat.output()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_workers_without_redis_end_with_a_clear_error(spawn: Spawn, environment: dict[str, str], workers: str) -> None:
    unreachable = {"TASKQ_BROKER_URL": "redis://:hunter2@127.0.0.1:1/0", "TASKQ_BROKER_DEADLINE": "0.3"}
    worker = spawn("-m", "taskq", "worker", "-A", "shop:app", "-w", workers, env=environment | unreachable)
    assert worker.wait(30) == ExitCode.UNAVAILABLE
    assert worker.output().count("Is Redis running? Check TASKQ_BROKER_URL") == 1
    assert "hunter2" not in worker.output()


def test_beat_needs_an_app(spawn: Spawn) -> None:
    beat = spawn("-m", "taskq", "beat")
    assert beat.wait() == ExitCode.USAGE
    assert "which app?" in beat.output()


def test_a_beat_tells_how_it_is_and_what_it_fired(
    spawn: Spawn, environment: dict[str, str], namespace: str, redis_client: Any
) -> None:
    ports = ("--health-port", "0", "--metrics-port", "0")
    beat = spawn("-m", "taskq", "beat", "-A", "shop:app", *ports, env=environment)
    health = wait_for_line(beat, r"health on (http://127\.0\.0\.1:\d+)")[1]
    metrics = wait_for_line(beat, r"metrics on (http://127\.0\.0\.1:\d+/metrics)")[1]

    def get(url: str) -> str:
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                text: str = response.read().decode()
                return text
        except urllib.error.HTTPError as error:
            return str(error)

    fired = f'taskq_scheduler_fires_total{{ns="{namespace}",outcome="fired",schedule="shop.tick"}}'
    eventually(lambda: get(f"{health}/ready") == "ready\n" and fired in get(metrics))
    assert get(f"{health}/live") == "live\n"
    beat.signal(signal.SIGTERM)
    assert beat.wait() == ExitCode.OK
    redis_client.delete(Keys(namespace).queue("default").stream(5))


def test_metrics_are_served_until_stopped(spawn: Spawn, environment: dict[str, str]) -> None:
    exporter = spawn("-m", "taskq", "metrics", "--port", "0", env=environment)
    url = wait_for_line(exporter, r"on (http://127\.0\.0\.1:\d+/metrics)")[1]
    with urllib.request.urlopen(url, timeout=30) as response:
        text = response.read().decode()
    assert f'taskq_queue_lag{{ns="{environment["TASKQ_NAMESPACE"]}",queue="default"}} 0.0' in text
    assert "taskq_up{" in text
    exporter.signal(signal.SIGTERM)
    assert exporter.wait(30) == ExitCode.OK


def test_metrics_on_a_port_in_use(spawn: Spawn, environment: dict[str, str]) -> None:
    first = spawn("-m", "taskq", "metrics", "--port", "0", env=environment)
    port = wait_for_line(first, r"on http://127\.0\.0\.1:(\d+)/")[1]
    second = spawn("-m", "taskq", "metrics", "--port", port, env=environment)
    assert second.wait() == ExitCode.USAGE
    assert f"taskq: cannot serve metrics on 127.0.0.1:{port}" in second.output()
