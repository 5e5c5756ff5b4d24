"""The endpoints for probes and scrapers: slow clients, many of them, and host names that point at us."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from prometheus_client import Gauge
from prometheus_client.core import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from support.process import Proc
from support.wait import eventually, wait_for_line

from taskq.observe import serving
from taskq.observe.health import serve_health
from taskq.observe.metrics import serve
from taskq.observe.serving import MOST_CONNECTIONS


@pytest.fixture(params=["metrics", "health"])
def listening(request: pytest.FixtureRequest) -> Iterator[Callable[..., tuple[str, int, str]]]:
    """Serve, and give the address and a path that answers 200."""
    with ExitStack() as servers:

        def start(**options: Any) -> tuple[str, int, str]:
            if request.param == "metrics":
                endpoint = servers.enter_context(closing(serve(CollectorRegistry(), **options)))
                return "127.0.0.1", endpoint.port, "/metrics"
            server = servers.enter_context(closing(serve_health("127.0.0.1", 0, lambda: True, **options)))
            return "127.0.0.1", server.server_port, "/ready"

        yield start


def status(host: str, port: int, path: str, name: str | None = None, version: str = "1.1") -> int:
    """The status of a request with that Host header; None: without one."""
    with socket.create_connection((host, port), timeout=10) as connection:
        line = "" if name is None else f"Host: {name}\r\n"
        connection.sendall(f"GET {path} HTTP/{version}\r\n{line}\r\n".encode("latin-1"))
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return int(answer.split()[1]) if answer else 0


@pytest.mark.parametrize(
    "name", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "worker", "", "["]
)
def test_a_name_that_was_pointed_at_us_gets_nothing(name: str, listening: Any) -> None:
    assert status(*listening(), name=name) == 421


@pytest.mark.parametrize("name", ["127.0.0.1:9", "localhost", "LOCALHOST:1", "[::1]:8000", "192.168.7.5", None])
def test_local_names_addresses_and_probes_without_a_name_are_answered(name: str | None, listening: Any) -> None:
    assert status(*listening(), name=name, version="1.0" if name is None else "1.1") == 200


def test_names_can_be_allowed(listening: Any) -> None:
    address = listening(allowed_hosts=["Worker", "metrics.example"])
    assert [status(*address, name=name) for name in ("worker:9", "metrics.example", "other")] == [200, 200, 421]
    assert status(*listening(allowed_hosts=["*"]), name="other") == 200


def test_headers_that_trickle_in_are_not_waited_for(listening: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUEST_SECONDS", 0.5)
    host, port, path = listening()
    stop = threading.Event()
    with socket.create_connection((host, port), timeout=20) as slow, socket.create_connection((host, port)) as silent:
        slow.sendall(f"GET {path} HTTP/1.1\r\n".encode())

        def trickle() -> None:
            while not stop.wait(0.05):
                slow.send(b"x")

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            silent.settimeout(20)
            assert silent.recv(1) == b""
            assert closed(slow)
        finally:
            stop.set()
            thread.join()


def closed(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        return True
    return True


def test_many_connections_that_send_nothing_keep_nobody_out(listening: Any) -> None:
    host, port, path = listening()
    before = threading.active_count()
    with ExitStack() as held:
        silent = [held.enter_context(socket.create_connection((host, port))) for _ in range(4 * MOST_CONNECTIONS)]
        assert status(host, port, path, name="localhost") == 200
        eventually(lambda: threading.active_count() <= before + MOST_CONNECTIONS)
        silent[0].settimeout(10)
        assert closed(silent[0]), "the oldest one makes room"
    eventually(lambda: threading.active_count() <= before)


def test_answers_that_are_under_way_are_not_hung_up_for_a_crowd() -> None:
    go_on, asked = threading.Event(), threading.Event()

    def ready() -> bool:
        asked.set()
        return go_on.wait(20)

    with closing(serve_health("127.0.0.1", 0, ready)) as server, ExitStack() as held:
        address = ("127.0.0.1", server.server_port)
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(status(*address, "/ready", name="localhost")))
        thread.start()
        assert asked.wait(20)
        for _ in range(2 * MOST_CONNECTIONS):
            held.enter_context(socket.create_connection(address))
        assert status(*address, "/live", name="localhost") == 200
        go_on.set()
        thread.join()
    assert found == [200]


def test_values_of_labels_are_escaped() -> None:
    registry, hostile = CollectorRegistry(), 'a"} 1\nevil{x="\\'
    Gauge("queued", "Messages", ["queue"], registry=registry).labels(hostile).set(5)
    with closing(serve(registry)) as endpoint:
        text = urllib.request.urlopen(endpoint.url, timeout=10).read().decode()
    (family,) = [each for each in text_string_to_metric_families(text) if each.name == "queued"]
    assert [(sample.labels, sample.value) for sample in family.samples] == [({"queue": hostile}, 5.0)]


def test_a_collector_that_fails_is_an_answer_and_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def collect(self) -> Any:
            yield from ()
            raise ValueError("not today")

        def describe(self) -> Any:
            return []

    registry = CollectorRegistry()
    registry.register(Broken())  # type: ignore[arg-type]
    with closing(serve(registry)) as endpoint, pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(endpoint.url, timeout=10)
    assert caught.value.code == 500
    caught.value.close()
    assert "not today" in caplog.text


@pytest.mark.leaves_keys("the workers are killed")
@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("metrics", "--port", "0"), r"on (http://127\.0\.0\.1:\d+)/metrics"),
        (("worker", "--health-port", "0"), r"health on (http://127\.0\.0\.1:\d+)"),
        (("worker", "--metrics-port", "0"), r"metrics on (http://127\.0\.0\.1:\d+)"),
        (("worker", "-w", "2", "--metrics-port", "0"), r"metrics of all on (http://127\.0\.0\.1:\d+)"),
        (("beat", "--health-port", "0"), r"health on (http://127\.0\.0\.1:\d+)"),
        (("beat", "--metrics-port", "0"), r"metrics on (http://127\.0\.0\.1:\d+)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_that_serves_checks_the_name(
    command: tuple[str, ...],
    said: str,
    spawn: Callable[..., Proc],
    redis_url: str,
    namespace: str,
    tmp_path: Any,
) -> None:
    (tmp_path / "shop.py").write_text(
        'from taskq import TaskQ\n\napp = TaskQ("shop")\n\n\n@app.task\ndef work(): ...\n'
    )
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_ALLOWED_HOSTS": "one.example"}
    process = spawn("-m", "taskq", command[0], "-A", "shop:app", *command[1:], env=env)
    _, _, address = wait_for_line(process, said)[1].rpartition("/")
    host, _, port = address.partition(":")
    found = [status(host, int(port), "/live", name=name) for name in ("one.example", "127.0.0.1", "evil.example")]
    assert found == [200, 200, 421]
