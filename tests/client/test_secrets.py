"""A ``Secret`` reaches the task and nothing else; what names tell is hidden on the command line too."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from collections.abc import Callable

import msgspec
import pytest
from click.testing import CliRunner
from support.asgi import ask
from support.browser import Browser
from support.worker import run_burst

from taskq import Secret, TaskQ, every
from taskq.cli import main
from taskq.dashboard import asgi
from taskq.errors import DecodeError, SerializationError
from taskq.values.redaction import HIDDEN, redact, redact_args, restore
from taskq.values.serialization import dumps, loads

VALUE, NAMED = "tok-5f1c9b", "key-77aa01"


@pytest.fixture
def cli(redis_url: str, namespace: str) -> Callable[..., str]:
    def run(*arguments: str, exit_code: int = 0) -> str:
        result = CliRunner().invoke(main, [*arguments, "-b", redis_url, "--namespace", namespace])
        assert result.exit_code == exit_code, result.output
        return result.output

    return run


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(VALUE)
    assert {str(secret), repr(secret), f"{secret}", f"{secret!r}", "%s" % secret, str([secret])[1:-1]} == {"***"}  # noqa: UP031
    assert secret.reveal() == VALUE
    assert secret == Secret(VALUE) != Secret("other")
    assert secret != VALUE
    assert len({secret, Secret(VALUE)}) == 1
    assert pickle.loads(pickle.dumps(secret)) == copy.deepcopy(secret) == secret
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_secret_arrives_as_one_with_what_is_in_it() -> None:
    value = {"plain": 1, "key": Secret({"id": 7, "inner": [Secret(b"\xff"), None]})}
    assert loads(dumps(value)) == value
    assert msgspec.msgpack.decode(dumps(Secret("a"))) == msgspec.msgpack.Ext(1, b"\xa1a"), "as docs/wire-format.md says"
    assert loads(msgspec.msgpack.encode(msgspec.msgpack.Ext(9, b"x"))) == msgspec.msgpack.Ext(9, b"x")
    with pytest.raises(SerializationError):
        dumps(Secret(object()))
    with pytest.raises(DecodeError):
        loads(msgspec.msgpack.encode(msgspec.msgpack.Ext(1, b"\xc1")))


def test_a_secret_key_is_read_again_whatever_is_in_it() -> None:
    """An error there would stop the worker that reads the message."""
    keyed = {Secret([1]): "list", Secret({"a": 1}): "mapping", Secret("x"): "text"}
    assert loads(dumps(keyed)) == keyed


def test_a_secret_is_masked_and_put_back() -> None:
    args = [Secret("a"), 2, {"password": Secret("b"), "note": "***"}]
    shown = redact(args)
    assert shown == ["***", 2, {"password": "***", "note": "***"}]
    assert redact_args([Secret("a"), "b"], ["token", "token"]) == ["***", HIDDEN]
    assert restore(shown, args) == args
    assert restore(["new", 3, shown[2]], args) == [Secret("new"), 3, args[2]], "what is written over one becomes one"
    with pytest.raises(ValueError, match="no secret was"):
        restore(["***", "***", {}], args)


def test_a_secret_reaches_the_task_and_no_view(
    app: TaskQ, cli: Callable[..., str], capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[int, str, str]] = []

    @app.task(name="pay", max_retries=0)
    def pay(order: int, token: Secret[str], *, api_key: str = "") -> Secret[str]:
        logging.getLogger("taskq.task.pay").warning("paying with %s", token)
        if order < 0:
            raise ValueError(f"cannot pay {order} with {token}, api_key={api_key}")
        seen.append((order, token.reveal(), api_key))
        return token

    good = pay.delay(1, Secret(VALUE), api_key=NAMED)
    pay.delay(-5, Secret(VALUE), api_key=NAMED)
    waiting = (
        cli("tasks", "list", "default") + cli("tasks", "list", "default", "--json") + cli("tasks", "show", good.id)
    )
    with caplog.at_level("DEBUG"):
        run_burst(app)
    assert seen == [(1, VALUE, NAMED)]
    assert good.get(timeout=20) == Secret(VALUE)
    (letter,) = app.dlq.list()
    ended = cli("tasks", "show", good.id) + cli("dlq", "list") + cli("dlq", "groups") + cli("dlq", "list", "--json")
    one = cli("dlq", "show", letter.entry) + cli("dlq", "show", letter.entry, "--json")
    one += cli("tasks", "show", letter.task_id, "--json")
    site = asgi.app(app)
    browser = Browser(site)
    path = f"{letter.queue}/{letter.entry}"
    places = [f"/messages/{good.id}", "/dlq", "/dlq/letters", f"/dlq/letters/{path}", f"/dlq/letter/edit/{path}"]
    pages = "".join(browser.get(place).text for place in places)
    assert letter.entry in browser.get("/dlq/letters?text=cannot").text
    for value in (VALUE, NAMED):
        assert letter.entry not in browser.get(f"/dlq/letters?text={value}").text, "nobody finds out by searching"
    for views in (waiting, ended, one, pages):
        assert VALUE not in views
        assert NAMED not in views
    for text in (repr(letter), caplog.text, "".join(capfd.readouterr())):
        assert VALUE not in text
    assert "***" in waiting
    assert HIDDEN in waiting
    assert "***" in one
    assert '"api_key": "[redacted]"' in one
    edited = ["--args", '[7, "***"]', "--kwargs", '{"api_key": "[redacted]"}']
    assert "Usage" in cli("dlq", "edit", letter.entry, "--args", '["***", 2]', exit_code=2)
    cli("dlq", "edit", letter.entry, *edited)
    run_burst(app)
    assert seen[1:] == [(7, VALUE, NAMED)]
    assert VALUE not in ask(site, "GET", "/audit").text
    site.close()


def test_a_schedule_can_have_a_secret(app: TaskQ) -> None:
    seen: list[str] = []
    app.task(name="poll")(lambda token: seen.append(token.reveal()))
    app.schedules.add("poll", every(3600), task="poll", args=[Secret(VALUE)])
    site = asgi.app(app)
    assert VALUE not in Browser(site).get("/schedules/poll").text
    site.close()
    app.schedules.run_now("poll")
    run_burst(app)
    assert seen == [VALUE]
    app.schedules.remove("poll")
