"""Mistakes in calls of tasks that a type checker finds; checked, never run."""

from taskq import Context, TaskQ, every

app = TaskQ("shop")


@app.task
def send(order_id: int, note: str = "") -> str:
    return f"{order_id}{note}"


@app.task(bind=True)
def bound(self: Context, order_id: int) -> str:
    return self.id


@app.periodic(every("1d"))
@app.task
def nightly(day: int = 0) -> str:
    return str(day)


@app.task
async def fetch(url: str) -> int:
    return len(url)


send.delay("wrong type")  # E: arg-type
nightly.delay("wrong type")  # E: arg-type
day: int = nightly.delay(1).get()  # E: assignment
send.delay()  # E: call-arg
send.delay(1, colour="red")  # E: call-arg
send.options(countdown=3).delay("wrong type")  # E: arg-type
send.options(countdwon=3)  # E: call-arg
send.options(priority="high")  # E: arg-type
send("wrong type")  # E: arg-type
number: int = send.delay(1).get()  # E: assignment
text: str = fetch.delay("u").get(propagate=False)  # E: assignment
bound.delay(bound, 1)  # E: call-arg, arg-type
bound.delay("wrong type")  # E: arg-type
app.task(max_retry=3)  # E: call-overload


async def program() -> None:
    text: str = await fetch.delay("u")  # E: assignment
    print(text)
    await fetch.adelay(1)  # E: arg-type
    await send(1)  # E: misc
