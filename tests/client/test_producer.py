"""What a sender is promised: one message per call, a clear error in time, and never a password in a text."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from support.proxy import FaultProxy
from support.wait import eventually
from support.worker import run_async, run_burst, running_worker

from taskq import (
    BrokerAuthError,
    BrokerError,
    BrokerUnavailableError,
    ConfigError,
    SerializationError,
    TaskQ,
    UnknownOptionError,
)
from taskq.broker.link.address import parse, redact
from taskq.client.result import Result
from taskq.embedded import EmbeddedRedis

MakeApp = Callable[..., TaskQ]
SECRET = "s3cr3t-p4ss"


class Sender:
    """An app behind a proxy, with one task that notes what it was called with."""

    def __init__(self, make_app: MakeApp, proxy: FaultProxy) -> None:
        self.app = make_app(broker_url=proxy.url)
        self.proxy = proxy
        self.got: list[int] = []
        self._direct = make_app()

        def note(x: int) -> int:
            self.got.append(x)
            return x

        self.note = self.app.task(name="note")(note)
        self._direct.task(name="note")(note)

    def warm_up(self) -> None:
        """Connect and load the scripts, so that the next chunk is the reply to a send."""
        self.note.delay(-1)
        self.note.options(countdown=0.01).delay(-1)

    def received(self, count: int) -> list[int]:
        """What arrived, once *count* messages have; then the queues are drained."""
        with running_worker(self._direct):
            eventually(lambda: len(self.real()) >= count)
        run_burst(self._direct)
        return sorted(self.real())

    def real(self) -> list[int]:
        return [x for x in self.got if x >= 0]


@pytest.fixture
def sender(make_app: MakeApp, redis_url: str) -> Iterator[Sender]:
    with FaultProxy(redis_url) as proxy:
        yield Sender(make_app, proxy)


def test_a_connection_that_falls_silent_does_not_use_up_the_deadline(make_app: MakeApp, redis_url: str) -> None:
    with FaultProxy(redis_url) as proxy:
        sender = Sender(lambda **settings: make_app(**settings, broker_deadline=3), proxy)
        sender.warm_up()
        proxy.silence()
        sender.note.delay(1)

        async def program() -> None:
            await sender.note.adelay(2)
            proxy.silence()
            await sender.note.adelay(3)

        run_async(sender.app, program())
        assert sender.received(3) == [1, 2, 3]


def test_delay_whose_reply_is_lost_makes_one_message(sender: Sender) -> None:
    sender.warm_up()
    for x in range(20):
        sender.proxy.drop_replies()
        sender.note.delay(x)
    assert sender.proxy.dropped == 20
    assert sender.received(20) == list(range(20))


def test_countdown_whose_reply_is_lost_makes_one_message(sender: Sender) -> None:
    sender.warm_up()
    for x in range(10):
        sender.proxy.drop_replies()
        sender.note.options(countdown=0.01).delay(x)
    assert sender.received(10) == list(range(10))


def test_the_first_calls_of_a_connection_may_lose_their_replies_too(sender: Sender) -> None:
    for x in range(5):
        sender.app.close()
        sender.proxy.drop_replies()  # that of the greeting
        sender.note.delay(x)
        sender.app.sync_broker.execute("SCRIPT", "FLUSH")
        sender.proxy.drop_replies()  # "no such script"
        sender.note.delay(100 + x)
    assert sender.proxy.dropped == 10
    assert sender.received(10) == [*range(5), *range(100, 105)]


def test_delay_many_whose_replies_are_lost_makes_one_message_each(sender: Sender) -> None:
    sender.warm_up()
    sender.proxy.drop_replies()
    sender.note.delay_many([(x,) for x in range(2500)])
    assert sender.proxy.dropped == 1
    assert sender.received(2500) == list(range(2500))


def test_adelay_whose_reply_is_lost_makes_one_message(sender: Sender) -> None:
    async def program() -> None:
        await sender.note.adelay(-1)
        for x in range(20):
            sender.proxy.drop_replies()
            await sender.note.adelay(x)
        sender.proxy.drop_replies()
        await asyncio.gather(*(sender.note.adelay(x) for x in range(20, 120)))
        sender.proxy.drop_replies()
        await sender.note.adelay_many([(x,) for x in range(120, 2120)])
        sender.proxy.drop_replies()
        await sender.note.options(countdown=0.01).adelay(2120)

    run_async(sender.app, program())
    assert sender.proxy.dropped == 23
    assert sender.received(2121) == list(range(2121))


def test_an_own_id_whose_reply_is_lost_makes_one_message(sender: Sender) -> None:
    sender.warm_up()
    for x in range(5):
        sender.proxy.drop_replies()
        sender.note.options(task_id=f"order-{x}").delay(x)
        sender.note.options(task_id=f"order-{x}").delay(x)
    assert sender.received(5) == list(range(5))


def test_connections_cut_under_load_cost_nothing(sender: Sender) -> None:
    stop = threading.Event()

    def saboteur() -> None:
        while not stop.wait(0.005):
            sender.proxy.cut()

    thread = threading.Thread(target=saboteur)
    thread.start()
    try:
        for x in range(300):
            sender.note.delay(x)
    finally:
        stop.set()
        thread.join()
    assert sender.received(300) == list(range(300))


def test_a_server_that_comes_back_within_the_deadline_is_waited_for(sender: Sender) -> None:
    sender.warm_up()
    sender.proxy.refuse()
    sender.proxy.cut()
    timer = threading.Timer(0.3, sender.proxy.accept)
    timer.start()
    sender.note.delay(1)
    timer.join()
    assert sender.received(1) == [1]


def send_sync(app: TaskQ) -> None:
    app.send_task("ping")


def send_async(app: TaskQ) -> None:
    async def program() -> None:
        task = app.task(name="ping")(lambda: None)
        await task.adelay()

    run_async(app, program())


def read_result(app: TaskQ) -> None:
    app.result("x", queue="default").get(timeout=30)


either_way = pytest.mark.parametrize("use", [send_sync, send_async, read_result])


@either_way
def test_no_redis_is_said_within_the_deadline(make_app: MakeApp, use: Callable[[TaskQ], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    app = make_app(broker_url=f"redis://:{SECRET}@127.0.0.1:{port}/0", broker_deadline=0.3)
    began = time.monotonic()
    with pytest.raises(BrokerUnavailableError, match=str(port)) as caught:
        use(app)
    assert time.monotonic() - began < 10
    assert SECRET not in everything_about(caught.value)


@either_way
def test_a_redis_that_does_not_answer_is_said_within_the_deadline(
    make_app: MakeApp, redis_url: str, use: Callable[[TaskQ], None]
) -> None:
    with FaultProxy(redis_url) as proxy:
        proxy.stall()
        app = make_app(broker_url=proxy.url, broker_deadline=0.3)
        with pytest.raises(BrokerUnavailableError):
            use(app)
        proxy.resume()


@either_way
def test_what_is_no_redis_is_said(make_app: MakeApp, use: Callable[[TaskQ], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        client.recv(1000)
                        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        app = make_app(broker_url=f"redis://127.0.0.1:{listener.getsockname()[1]}/0", broker_deadline=0.3)
        with pytest.raises(BrokerError):
            use(app)
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(30)


@pytest.mark.parametrize("login", [f":{SECRET}-wrong@", f"nobody:{SECRET}@", ""])
@either_way
def test_a_wrong_password_is_said_and_not_shown(
    make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis], login: str, use: Callable[[TaskQ], None]
) -> None:
    server = private_redis(password=SECRET, appendonly=False)
    app = make_app(broker_url=f"redis://{login}127.0.0.1:{server.port}/0")
    with pytest.raises(BrokerAuthError) as caught:
        use(app)
    assert SECRET not in everything_about(caught.value)
    assert SECRET not in repr(app) + str(app.address) + repr(app.config) + repr(app.address)


def everything_about(error: BaseException) -> str:
    """Every text of an error that a log may show, its causes included."""
    import traceback

    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{SECRET}@localhost",
        f"redis//:{SECRET}@localhost",
        f"redis://:{SECRET}@localhost:port",
        f"redis://:{SECRET}@localhost/zero",
        f"redis://:{SECRET}@localhost/0?colour=red",
        f"redis://:{SECRET}@localhost/0?ssl_cert_reqs=maybe",
        f"redis://:a@b/{SECRET}@localhost/0",
        f"redis://:a?{SECRET}=1@localhost/0",
        f"redis://:a#{SECRET}@localhost/0",
        f"redis://:{SECRET}@a..b/0",
        f"redis://:{SECRET}@[::1/0",
        "",
    ],
)
def test_a_bad_url_is_a_configuration_error_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TaskQ("test", url)
    assert SECRET not in everything_about(caught.value)


def test_redact_keeps_what_helps() -> None:
    assert redact(f"redis://:{SECRET}@shop.example:6379/0") == "redis://***@shop.example:6379/0"


def test_a_password_with_strange_characters_can_be_written(
    make_app: MakeApp, private_redis: Callable[..., EmbeddedRedis]
) -> None:
    server = private_redis(password="p@ss/w:rd?#", appendonly=False)
    app = make_app(broker_url=server.url)
    app.send_task("ping")
    assert parse(server.url).password == "p@ss/w:rd?#"


def test_what_cannot_be_serialised_is_refused_and_nothing_is_written(app: TaskQ, redis_client: Any) -> None:
    @app.task
    def note(x: object) -> None: ...

    class Order: ...

    for bad in (Order(), lambda: 1, 2**70, "\udcff", [object()]):
        with pytest.raises(SerializationError, match=r"argument of .*note"):
            note.delay(bad)
        with pytest.raises(SerializationError):
            note.delay_many([(1,), (bad,)])
        with pytest.raises(SerializationError):
            run_async(app, note.adelay(bad))
    assert list(redis_client.scan_iter(f"{app.config.namespace}:*")) == []


def test_unknown_options_are_refused_with_a_hint(app: TaskQ, make_app: MakeApp) -> None:
    @app.task
    def ping() -> None: ...

    with pytest.raises(UnknownOptionError, match="did you mean 'countdown'"):
        ping.options(countdwon=3)  # type: ignore[call-arg]
    with pytest.raises(UnknownOptionError, match="did you mean 'queue'"):
        ping.apply_async((), {}, queu="mail")  # type: ignore[call-arg]
    with pytest.raises(UnknownOptionError, match="did you mean 'max_retries'"):
        app.task(max_retry=3)(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(UnknownOptionError, match="did you mean 'lease_timeout'"):
        make_app(lease_timout=3)
    with pytest.raises(UnknownOptionError):
        app.send_task("ping", zzz=1)


def test_wrong_arguments_are_a_type_error_here_and_now(app: TaskQ, redis_client: Any) -> None:
    @app.task
    def add(a: int, /, b: int, *, c: int = 0) -> int:
        return a + b + c

    for args, kwargs in [((), {}), ((1,), {}), ((1, 2, 3), {}), ((1, 2), {"d": 1}), ((), {"a": 1, "b": 2})]:
        with pytest.raises(TypeError):
            add.delay(*args, **kwargs)
        with pytest.raises(TypeError):
            add.apply_async(args, kwargs)
    with pytest.raises(TypeError):
        add.delay_many([(1, 2), (1,)])
    assert list(redis_client.scan_iter(f"{app.config.namespace}:*")) == []


def test_a_forked_child_sends_on_its_own_connection(app: TaskQ) -> None:
    """As under gunicorn or uwsgi, where the parent has used its connections before it forks."""
    got: list[list[int]] = []

    @app.task(name="note")
    def note(who: int, n: int) -> None:
        got.append([who, n])

    note.delay(0, 0)
    app.result("x", queue="default").ready()
    children = []
    for who in range(1, 4):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for n in range(50):
                    note.delay(who, n)
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for n in range(1, 50):
        note.delay(0, n)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    run_burst(app)
    assert sorted(got) == [[who, n] for who in range(4) for n in range(50)]


def test_threads_share_an_app(app: TaskQ) -> None:
    got: list[int] = []

    @app.task
    def note(x: int) -> None:
        got.append(x)

    threads = [
        threading.Thread(target=lambda start=start: [note.delay(x) for x in range(start, start + 100)])
        for start in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run_burst(app)
    assert sorted(got) == list(range(800))


def _wait(result: Result[int]) -> int:
    return result.get(timeout=20)


def _await(result: Result[int]) -> int:
    async def wait() -> int:
        try:
            return await result.aget(timeout=20)
        finally:
            await result._app.aclose()

    return asyncio.run(wait())


@pytest.mark.parametrize("wait", [_wait, _await], ids=["thread", "event loop"])
def test_waiting_survives_a_broken_subscription(
    sender: Sender, redis_client: redis.Redis, wait: Callable[[Result[int]], int]
) -> None:
    result = sender.note.delay(1)
    waited: list[int] = []
    thread = threading.Thread(target=lambda: waited.append(wait(result)))

    def subscribers() -> set[str]:
        return {client["id"] for client in redis_client.client_list(_type="pubsub")}

    seen = subscribers()
    thread.start()
    for _ in range(3):
        eventually(lambda: subscribers() - seen)
        seen.update(subscribers())
        sender.proxy.cut()
    eventually(lambda: subscribers() - seen)
    assert sender.received(1) == [1]
    thread.join(20)
    assert waited == [1]


@pytest.mark.parametrize("use", ["delay", "adelay", "get", "aget"])
def test_without_redis_the_error_is_one_sentence_and_the_callers_own_lines(use: str) -> None:
    app = TaskQ("test", broker_url="redis://:hunter2@127.0.0.1:1/0", broker_deadline=0.2)

    @app.task
    def job() -> None: ...

    result: Result[None] = Result(app, "0" * 32, "default")
    calls: dict[str, Callable[[], object]] = {
        "delay": job.delay,
        "adelay": lambda: asyncio.run(job.adelay()),
        "get": lambda: result.get(timeout=1),
        "aget": lambda: asyncio.run(result.aget(timeout=1)),
    }
    with pytest.raises(BrokerUnavailableError) as caught:
        calls[use]()
    text = "".join(traceback.format_exception(caught.value))
    assert text.endswith("tried for 0.2 s. Is Redis running? Check TASKQ_BROKER_URL\n")
    assert "hunter2" not in text
    assert "/taskq/broker/" not in text
    assert text.count("Traceback") == 1
    app.close()
