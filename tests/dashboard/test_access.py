"""Signing in, sessions, the command's refusals, mounting, and what is shown of secrets."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from support.asgi import ask
from support.browser import CREDENTIALS, OPERATOR, VIEWER, Browser
from support.process import ROOT, Proc
from support.wait import eventually, wait_for_line
from support.worker import run_burst, running_worker

from taskq import TaskQ
from taskq.dashboard import asgi
from taskq.dashboard.access import Access, Credential, Role, load_credentials
from taskq.dashboard.editing import from_text
from taskq.errors import ConfigError
from taskq.values.message import WIRE_VERSION, Message
from taskq.values.redaction import HIDDEN, redact, redact_args, redact_text, restore


def test_signing_out_ends_the_session_also_for_a_copy_of_its_cookie(
    guarded_site: Any, browser: Callable[[Any], Browser]
) -> None:
    visitor = browser(guarded_site)
    visitor.sign_in(VIEWER)
    copy = dict(visitor.cookies)
    assert ask(guarded_site, "GET", "/queues", cookies=copy).status == 200
    assert visitor.post("/logout").status == 303
    assert ask(guarded_site, "GET", "/queues", cookies=copy).header("location").startswith("/login")


def test_a_changed_password_ends_its_sessions_and_no_others() -> None:
    key = b"k" * 32
    before, after = Access(CREDENTIALS, key), Access((Credential("olga", Role.OPERATOR, "another-1-2-3"),), key)
    cookie = before.session(CREDENTIALS[0])
    assert before.by_session(cookie).role is Role.OPERATOR
    assert Access(CREDENTIALS, key).by_session(cookie).role is Role.OPERATOR
    assert after.by_session(cookie).role is Role.NOBODY
    assert Access(CREDENTIALS).by_session(cookie).role is Role.NOBODY


def test_after_signing_in_one_lands_inside(guarded_site: Any, browser: Callable[[Any], Browser]) -> None:
    for given, there in {
        "/queues": "/queues",
        "//evil.example": "/",
        "https://evil.example": "/",
        "/\\evil.example": "/",
        "": "/",
    }.items():
        answer = browser(guarded_site).post("/login", {"secret": VIEWER, "next": given})
        assert (answer.status, answer.header("location")) == (303, there), given


def test_cookies_are_for_this_site_alone(guarded_site: Any, browser: Callable[[Any], Browser]) -> None:
    visitor = browser(guarded_site)
    answers = [visitor.get("/login"), visitor.sign_in(VIEWER)]
    cookies = [value for answer in answers for name, value in answer.headers if name == "set-cookie"]
    assert len(cookies) >= 2
    assert all("HttpOnly" in one and "SameSite=strict" in one for one in cookies), cookies


def test_the_command_refuses_other_addresses_without_a_password(spawn: Callable[..., Proc], redis_url: str) -> None:
    env = {"TASKQ_BROKER_URL": redis_url}
    process = spawn("-m", "taskq", "dashboard", "--host", "0.0.0.0", "--port", "0", env=env)
    assert process.wait() == 2
    assert "TASKQ_DASHBOARD_PASSWORD" in process.output()
    guarded = spawn(
        "-m", "taskq", "dashboard", "--host", "0.0.0.0", "--port", "0", env=env | {"TASKQ_DASHBOARD_PASSWORD": OPERATOR}
    )
    wait_for_line(guarded, "the dashboard is on")
    assert OPERATOR not in guarded.output()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("operator olga operators-secret-1\n", 0o644, "chmod 600"),
        ("operator olga short\n", 0o600, "at least 12 characters"),
        ("boss olga operators-secret-1\n", 0o600, "line 1: write"),
        ("viewer a the-same-secret\nviewer b the-same-secret\n", 0o600, "same password"),
        ("# nobody\n", 0o600, "names no user"),
    ],
)
def test_a_file_of_users_that_cannot_be_used_is_refused(text: str, mode: int, said: str, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=said) as caught:
        load_credentials({}, str(file))
    assert "secret-1" not in str(caught.value)


def test_users_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("# people\noperator olga operators-secret-1\nviewer vera viewers secret 22\n")
    file.chmod(0o600)
    found = load_credentials({"TASKQ_DASHBOARD_VIEWER_PASSWORD": "look-at-it-all"}, str(file))
    assert [(one.name, one.role.name) for one in found] == [
        ("viewer", "VIEWER"),
        ("olga", "OPERATOR"),
        ("vera", "VIEWER"),
    ]
    assert "secret" not in repr(found)


def test_it_can_be_mounted_below_a_path_of_another_application(open_site: Any) -> None:
    whole = Starlette(routes=[Mount("/admin/taskq", app=open_site)])
    answer = ask(whole, "GET", "/admin/taskq/queues")
    assert answer.status == 200
    links = re.findall(r'(?:href|src|action)="([^"]+)"', answer.text)
    assert links
    assert not [link for link in links if not link.startswith(("/admin/taskq/", "#"))]
    assert ask(whole, "GET", links[1]).status == 200


def test_static_files_are_kept_by_browsers_and_nothing_else_is_served(open_site: Any) -> None:
    answer = ask(open_site, "GET", "/static/vendor/htmx/htmx.min.js")
    assert answer.status == 200
    assert "immutable" in answer.header("cache-control")
    for path in ("/static/../asgi.py", "/static/vendor/README.md", "/static/%2e%2e/asgi.py", "/static/"):
        assert ask(open_site, "GET", path).status == 404


def test_vendored_files_are_those_that_the_table_names() -> None:
    folder = ROOT / "taskq" / "dashboard" / "static" / "vendor"
    rows = re.findall(r"\| `([^`]+)` \| `([0-9a-f]{64})` \|", (folder / "README.md").read_text())
    assert {name for name, _ in rows} == {str(f.relative_to(folder)) for f in folder.rglob("*.min.*")}
    for name, digest in rows:
        assert sha256((folder / name).read_bytes()).hexdigest() == digest, name
        assert (folder / name).with_name("LICENSE").exists()


@pytest.mark.parametrize(
    "name", ["password", "db_password", "apiKey", "X-Auth-Token", "Authorization", "session_id", "card_number", "PIN"]
)
def test_values_of_secret_names_are_hidden(name: str) -> None:
    assert redact({name: "s3cret", "deep": [{name: 1}]}) == {name: HIDDEN, "deep": [{name: HIDDEN}]}
    assert redact_args(["s3cret", 2], [name, "count"]) == [HIDDEN, 2]
    assert "s3cret" not in redact_text(f"ValueError: call failed: {name}=s3cret, {name}: 's3cret'")


@pytest.mark.parametrize("name", ["max_tokens", "author", "shipping", "passenger", "order"])
def test_other_values_are_shown(name: str) -> None:
    assert redact({name: "seen"}) == {name: "seen"}


def test_a_secret_in_a_url_or_header_is_hidden_in_texts() -> None:
    assert redact_text("redis://user:s3cret@host/0 Authorization: Bearer abc.def") == (
        f"redis://user:{HIDDEN}@host/0 Authorization: Bearer {HIDDEN}"
    )


def test_editing_puts_back_what_was_hidden_and_left_alone() -> None:
    before = {"password": "s3cret", "note": "token=abc here", "to": "ada"}
    shown = redact(before)
    assert restore({**shown, "to": "bob"}, before) == {**before, "to": "bob"}
    with pytest.raises(ValueError, match="write the value itself"):
        restore({"to": f"my {HIDDEN}"}, before)


@pytest.mark.parametrize(
    "arguments",
    ['[{"$datetime": 5}]', '[{"$datetime": "soon"}]', '[{"$bytes": null}]', "[" * 100_000],
    ids=["no text", "no time", "no bytes", "too deep"],
)
def test_arguments_that_nobody_can_mean_are_an_error_of_the_form(arguments: str) -> None:
    message = Message(WIRE_VERSION, "id", "pay", [], {})
    with pytest.raises(ConfigError):
        from_text(f'{{"args": {arguments}, "kwargs": {{}}}}', message)


def test_a_dead_letter_is_edited_and_replayed_with_its_secrets(
    app: TaskQ, open_site: Any, browser: Callable[[Any], Browser]
) -> None:
    seen: list[tuple[int, str]] = []

    @app.task(max_retries=0)
    def pay(amount: int, api_token: str) -> None:
        if amount < 0:
            raise ValueError(f"amount {amount}, api_token={api_token}")
        seen.append((amount, api_token))

    pay.delay(-5, "tok-123456")
    run_burst(app)
    letter = app.dlq.list()[0]
    visitor = browser(open_site)
    path = f"/dlq/letters/{letter.queue}/{letter.entry}"
    edit = f"/dlq/letter/edit/{letter.queue}/{letter.entry}"
    for page in (path, edit, "/dlq", "/dlq/letters", f"/messages/{letter.task_id}"):
        answer = visitor.get(page)
        assert answer.status == 200
        assert "tok-123456" not in answer.text, page
    assert visitor.post(edit, {"arguments": '{"args": [1], "kwargs": {}}'}).status == 400
    edited = '{"args": [7, "[redacted]"], "kwargs": {}}'
    assert visitor.post(edit, {"arguments": edited}).status == 303
    run_burst(app)
    assert seen == [(7, "tok-123456")]
    audit = visitor.get("/audit").text
    assert "dlq.edit" in audit
    assert "tok-123456" not in audit


def test_all_of_a_kind_are_replayed_with_progress(
    app: TaskQ, open_site: Any, browser: Callable[[Any], Browser]
) -> None:
    broken = True

    @app.task(max_retries=0)
    def deliver(n: int) -> None:
        if broken:
            raise OSError("the line is down")

    deliver.delay_many([(n,) for n in range(20)])
    run_burst(app)
    visitor = browser(open_site)
    letter = app.dlq.list()[-1]
    app.result(letter.task_id).forget()
    assert visitor.get(f"/messages/{letter.task_id}").header("location").endswith(letter.entry)
    (group,) = app.dlq.groups()
    form = {"queue": group.queue, "fingerprint": group.fingerprint}
    assert "<b>20</b> dead letters" in visitor.get(f"/dlq/bulk?action=replay&fingerprint={group.fingerprint}").text
    begun = visitor.post("/dlq/replay", form)
    job = begun.header("location")
    assert job.startswith("/jobs/")
    eventually(lambda: "done" in visitor.get(job).text)
    broken = False
    run_burst(app)
    assert app.dlq.count() == 0
    assert visitor.post("/dlq/purge", {**form, "confirm": "no"}).header("location") == "/dlq"


def test_queues_of_event_groups_have_pages_too(app: TaskQ, open_site: Any, browser: Callable[[Any], Browser]) -> None:
    app.topic("orders")

    @app.subscriber("orders", group="audit", max_retries=0)
    def look(event: Any) -> None:
        raise ValueError("not today")

    app.publish("orders", {"n": 1})
    with running_worker(app):
        (letter,) = eventually(app.dlq.list)
    visitor = browser(open_site)
    for path in (f"/queues/{letter.queue}", f"/dlq/letters/{letter.queue}/{letter.entry}", "/events/orders"):
        assert visitor.get(path).status == 200, path
    assert visitor.post(f"/dlq/letter/purge/{letter.queue}/{letter.entry}").status == 303
    assert app.dlq.count() == 0


def test_without_redis_pages_say_so_and_come_back(browser: Callable[[Any], Browser]) -> None:
    app = TaskQ("away", broker_url="redis://127.0.0.1:1/0", broker_deadline=0.1)
    site = asgi.app(app)
    answer = browser(site).get("/dlq")
    site.close()
    assert answer.status == 503
    assert "Redis does not answer" in answer.text
    app.close()
