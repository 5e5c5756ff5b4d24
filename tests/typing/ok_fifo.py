"""FIFOs, as a user's code looks to a type checker; checked, never run."""

from typing import Any, assert_type

from taskq import Fifo, Item, QueueEmptyError, TaskQ

app = TaskQ("shop")
jobs = app.queue("jobs", prefetch=10)

assert_type(jobs, Fifo)
assert_type(jobs.put({"order": 7}), str)
assert_type(jobs.put_many([1, 2]), int)
assert_type(jobs.get(timeout="5s"), Item)
assert_type(jobs.get().value, Any)
assert_type(len(jobs), int)

try:
    with jobs.get(timeout=5) as item:
        assert_type(item, Item)
        assert_type(item.deliveries, int)
        item.reject("why")
except QueueEmptyError:
    pass

for each in jobs:
    assert_type(each, Item)


async def main() -> None:
    assert_type(await jobs.aput(1), str)
    assert_type(await jobs.aget(), Item)
    async with await jobs.aget(timeout=1) as item:
        assert_type(item, Item)
        await item.arelease()
    async for each in jobs:
        assert_type(each, Item)
        await each.aack()
