"""How often passwords can be guessed: by address, by all together, and what a proxy may say about addresses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from support.asgi import Answer, ask
from support.browser import CREDENTIALS, OPERATOR, VIEWER, Browser
from support.process import Proc
from support.wait import wait_for_line

from taskq import TaskQ
from taskq.dashboard import asgi, attempts
from taskq.dashboard.access import Access, TooManyAttemptsError
from taskq.dashboard.attempts import MOST, PER_ADDRESS, PER_DASHBOARD, Attempts
from taskq.errors import ConfigError

FORWARDED = ("x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip", "true-client-ip", "x-client-ip")
PROXY = "10.1.2.3"


def guess(site: Any, secret: str = "guess", *, client: str = "192.0.2.1", **headers: str) -> Answer:
    """Try a password from *client*, as a browser that nobody has used before."""
    first = ask(site, "GET", "/login", client=client)
    token = first.text.partition('name="csrf" value="')[2].partition('"')[0]
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    form = {"secret": secret, "csrf": token, "next": "/"}
    return ask(site, "POST", "/login", headers=given, cookies=first.cookies, form=form, client=client)


def test_a_wrong_password_says_nothing_and_ten_of_them_close_the_door(guarded_site: Any) -> None:
    answers = [guess(guarded_site, OPERATOR[:-1]) for _ in range(PER_ADDRESS)]
    assert {answer.status for answer in answers} == {401}
    assert not [answer for answer in answers if "taskq_session" in answer.cookies]
    refused = guess(guarded_site, OPERATOR)
    assert (refused.status, refused.header("retry-after")) == (429, "60")
    assert "taskq_session" not in refused.cookies
    assert guess(guarded_site, OPERATOR, client="192.0.2.2").status == 303, "another address is not locked out"


@pytest.mark.parametrize("header", FORWARDED)
def test_headers_of_the_client_do_not_make_another_address_of_it(header: str, guarded_site: Any) -> None:
    for n in range(PER_ADDRESS):
        told = f"for=203.0.113.{n}" if header == "forwarded" else f"203.0.113.{n}"
        assert guess(guarded_site, **{header: told}).status == 401
    assert guess(guarded_site, OPERATOR, **{header: "203.0.113.99"}).status == 429
    assert guess(guarded_site, OPERATOR, client="203.0.113.1").status == 303, "an address of his choice was locked out"


def test_a_named_proxy_tells_who_comes_through_it(make_site: Callable[..., Any]) -> None:
    site = make_site(credentials=CREDENTIALS, trusted_proxies=["10.0.0.0/8", "::1"])
    for n in range(PER_ADDRESS):  # what the client wrote stands before what the proxy added
        assert guess(site, client=PROXY, x_forwarded_for=f"203.0.113.{n}, 198.51.100.7").status == 401
    assert guess(site, OPERATOR, client=PROXY, x_forwarded_for="198.51.100.7:4711, 10.9.9.9").status == 429
    assert guess(site, OPERATOR, client="::1", x_forwarded_for="198.51.100.7").status == 429
    assert guess(site, OPERATOR, client=PROXY, x_forwarded_for="198.51.100.8").status == 303
    assert guess(site, OPERATOR, client="::ffff:10.1.2.3", x_forwarded_for="198.51.100.9").status == 303
    assert guess(site, OPERATOR, client="192.0.2.1", x_forwarded_for="198.51.100.7").status == 303


def test_the_scheme_is_that_of_the_browser_where_a_named_proxy_says_so(make_site: Callable[..., Any]) -> None:
    told = {"x_forwarded_proto": "https", "origin": "https://127.0.0.1:8000"}
    named, other = (make_site(credentials=CREDENTIALS, trusted_proxies=names) for names in ([PROXY], []))
    answer = guess(named, OPERATOR, client=PROXY, **told)
    assert answer.status == 303
    assert "Secure" in answer.header("set-cookie")
    refused = guess(other, OPERATOR, client=PROXY, **told)
    assert refused.status == 403
    assert "--trusted-proxy" in refused.text


@pytest.mark.parametrize("named", ["10.0.0.1", ["proxy.example"], [""], ["10.0.0.0/99"], [None]])
def test_what_is_not_an_address_cannot_be_a_trusted_proxy(named: Any, app: TaskQ) -> None:
    with pytest.raises(ConfigError, match="trusted"):
        asgi.app(app, trusted_proxies=named)


def test_guesses_from_many_addresses_are_limited_together(guarded_site: Any) -> None:
    statuses = [guess(guarded_site, client=f"192.0.2.{n}").status for n in range(PER_DASHBOARD + 20)]
    assert statuses == [401] * PER_DASHBOARD + [429] * 20


def test_addresses_of_one_network_of_ipv6_are_one(guarded_site: Any) -> None:
    for n in range(PER_ADDRESS):
        assert guess(guarded_site, client=f"2001:db8::{n + 1:x}").status == 401
    assert guess(guarded_site, OPERATOR, client="2001:db8::ffff:1").status == 429
    assert guess(guarded_site, OPERATOR, client="2001:db8:0:1::1").status == 303


def test_a_browser_that_has_signed_in_before_is_not_locked_out_by_its_neighbours(
    guarded_site: Any, browser: Callable[[Any], Browser]
) -> None:
    olga, vera = browser(guarded_site), browser(guarded_site)
    for visitor, secret in ((olga, OPERATOR), (vera, VIEWER)):
        assert visitor.sign_in(secret).status == 303
        visitor.post("/logout")
    while guess(guarded_site, client="127.0.0.1").status != 429:
        pass
    assert browser(guarded_site).sign_in(OPERATOR).status == 429
    assert olga.sign_in(OPERATOR).status == 303
    olga.post("/logout")
    for _ in range(PER_ADDRESS):
        assert olga.sign_in("guess").status == 401
    assert olga.sign_in(OPERATOR).status == 429, "its own guesses are counted"
    assert vera.sign_in(VIEWER).status == 303


def test_the_cookie_of_a_known_browser_cannot_be_made_up_and_lets_nobody_in(
    guarded_site: Any, browser: Callable[[Any], Browser]
) -> None:
    olga = browser(guarded_site)
    olga.sign_in(OPERATOR)
    known = olga.cookies["taskq_known"]
    thief = browser(guarded_site)
    thief.cookies["taskq_known"] = known
    assert thief.get("/queues").header("location").startswith("/login")
    for forged in (known[:-1] + ("0" if known[-1] != "0" else "1"), "x." + "0" * 64, "", ".", "\N{SNOWMAN}.x"):
        access = Access(CREDENTIALS, b"k" * 32)
        for _ in range(PER_ADDRESS):
            assert access.by_secret("guess", "192.0.2.9", forged) is None
        with pytest.raises(TooManyAttemptsError):
            access.by_secret(OPERATOR, "192.0.2.9", forged)


def test_tokens_of_programs_are_limited_too_and_an_attack_from_elsewhere_does_not_stop_them(guarded_site: Any) -> None:
    def call(token: str, client: str) -> str:
        given = {"authorization": f"Bearer {token}"}
        answer = ask(guarded_site, "GET", "/queues", headers=given, client=client)
        return answer.header("retry-after") or str(answer.status)

    assert call(OPERATOR, "198.51.100.1") == "200"
    for n in range(PER_DASHBOARD):
        call("guess", f"192.0.2.{n}")
    assert call(OPERATOR, "192.0.2.77") == "60", "from an unknown address nobody can try"
    assert call(OPERATOR, "198.51.100.1") == "200"
    for _ in range(PER_ADDRESS):
        call("guess", "198.51.100.1")
    assert call(OPERATOR, "198.51.100.1") == "60"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let seconds pass for the counters."""
    now = [1000.0]
    monkeypatch.setattr(attempts.time, "monotonic", lambda: now[0])

    def passed(seconds: float) -> None:
        now[0] += seconds

    return passed


def test_the_door_opens_again_however_often_somebody_knocks_meanwhile(later: Callable[[float], None]) -> None:
    counted = Attempts()
    for _ in range(PER_ADDRESS):
        assert counted.begin("192.0.2.1") is not None
    for _ in range(59):
        later(1)
        assert counted.begin("192.0.2.1") is None
    later(1.1)
    assert counted.begin("192.0.2.1") is not None


def test_the_counters_are_bounded(later: Callable[[float], None]) -> None:
    counted = Attempts()
    for n in range(4 * MOST):
        attempt = counted.begin(f"address {n}", f"browser {n}")
        later(61)
        assert attempt is not None
        if n % 2:
            counted.succeeded(attempt)
    assert len(counted._wrong) <= MOST
    assert len(counted._known) <= MOST


def test_guesses_at_the_same_moment_are_counted_one_by_one() -> None:
    counted, started = Attempts(), threading.Barrier(8)
    let_in: list[object] = []

    def hurry() -> None:
        started.wait()
        let_in.extend(filter(None, [counted.begin("192.0.2.1") for _ in range(50)]))

    threads = [threading.Thread(target=hurry) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(let_in) == PER_ADDRESS


def test_the_command_believes_no_forwarded_address_unless_told(
    spawn: Callable[..., Proc], redis_url: str, namespace: str
) -> None:
    env = {"TASKQ_BROKER_URL": redis_url, "TASKQ_NAMESPACE": namespace, "TASKQ_DASHBOARD_PASSWORD": OPERATOR}
    env["FORWARDED_ALLOW_IPS"] = "*"  # what uvicorn would read
    for more, refused in (((), True), (("--trusted-proxy", "127.0.0.0/8"), False)):
        process = spawn("-m", "taskq", "dashboard", "--port", "0", *more, env=env)
        address = wait_for_line(process, r"on (http://127\.0\.0\.1:\d+)")[1]
        with httpx.Client(base_url=address) as client:
            answers = [
                client.get("/", headers={"authorization": "Bearer guess", "x-forwarded-for": f"203.0.113.{n}"})
                for n in range(PER_ADDRESS + 5)
            ]
        assert ("retry-after" in answers[-1].headers) is refused
