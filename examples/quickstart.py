"""Send tasks, run them in a worker, read their results.

Run it:           python examples/quickstart.py
On your Redis:    TASKQ_BROKER_URL=redis://localhost:6379/0 python examples/quickstart.py
"""

from __future__ import annotations

import asyncio

from surroundings import worker_for

from taskq import TaskQ

app = TaskQ("quickstart")


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
async def greet(name: str) -> str:
    await asyncio.sleep(0.1)
    return f"hello {name}"


async def from_async_code() -> None:
    result = await greet.adelay("world")
    print("greet:", await result)


if __name__ == "__main__":
    with worker_for(app, "quickstart:app"):
        print("add:", add.delay(2, 3).get(timeout=10))
        asyncio.run(from_async_code())
        many = add.delay_many([(n, n) for n in range(1000)])
        print("a thousand more:", sum(result.get(timeout=10) for result in many))
