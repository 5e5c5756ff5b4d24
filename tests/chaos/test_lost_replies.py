"""Two thousand calls that Redis executed and whose replies never came: each makes one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.proxy import FaultProxy
from support.worker import run_async

from taskq import TaskQ
from taskq.broker.keys import Keys
from taskq.values.message import decode

pytestmark = [pytest.mark.slow, pytest.mark.leaves_keys(reason="the messages are looked at, not run")]

CALLS = 500
"""Of each kind; a lost reply each."""


@pytest.fixture
def proxy(redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy(redis_url) as made:
        yield made


@pytest.fixture
def tasks(make_app: Callable[..., TaskQ], proxy: FaultProxy) -> Any:
    """A task whose producers reach Redis through the proxy, connected already."""
    app = make_app(broker_url=proxy.url)

    @app.task(name="work", queue="q")
    def work(number: int) -> None: ...

    work.delay(0)
    return work


def messages(client: Any, namespace: str) -> Counter[int]:
    """How many messages each number has become."""
    keys = Keys(namespace).queue("q")
    found = [fields[b"m"] for _, fields in client.xrange(keys.stream(5))]
    found += [member[1:] for member in client.zrange(keys.delayed, 0, -1)]
    return Counter(decode(data).args[0] for data in found)


def losing(proxy: FaultProxy, send: Callable[[int], object], first: int) -> None:
    """Send numbers from *first* on, the first reply to each lost."""
    before = proxy.dropped
    for number in range(first, first + CALLS):
        proxy.drop_replies()
        send(number)
    assert proxy.dropped - before == CALLS


def test_two_thousand_lost_replies_make_no_duplicate(
    tasks: Any, proxy: FaultProxy, redis_client: Any, namespace: str
) -> None:
    async def coroutines() -> None:
        await tasks.adelay(0)  # connects
        before = proxy.dropped
        for number in range(3 * CALLS + 1, 4 * CALLS + 1):
            proxy.drop_replies()
            await tasks.adelay(number)
        assert proxy.dropped - before == CALLS

    later = tasks.options(countdown=3600)
    losing(proxy, tasks.delay, 1)
    losing(proxy, later.delay, CALLS + 1)
    losing(proxy, lambda number: tasks.delay_many([(number,), (-number,)]), 2 * CALLS + 1)
    run_async(tasks.app, coroutines())
    found = messages(redis_client, namespace)
    assert found.pop(0) == 2
    bulk = range(2 * CALLS + 1, 3 * CALLS + 1)
    assert found == dict.fromkeys([*range(1, 4 * CALLS + 1), *(-number for number in bulk)], 1)
