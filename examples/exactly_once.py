"""Effects that happen once, however often their task runs: five ways, on SQLite. See docs/idempotency.md.

Run it: python examples/exactly_once.py   (needs: pip install "taskq-streams[sqlalchemy]")

Every task below fails after it has done its work, so that it runs again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sqlalchemy import create_engine, text
from surroundings import worker_for

from taskq import Context, TaskQ
from taskq.contrib.sqlalchemy import OutboxRelay, create_tables, once, outbox

app = TaskQ("exactly_once")
DATABASE = os.environ.setdefault("SHOP_DATABASE", f"sqlite:///{tempfile.mkdtemp()}/shop.db")
engine = create_engine(DATABASE)


def run_it_again(context: Context) -> None:
    if context.attempt == 1:
        raise ConnectionError("after the work was done")


# 1. A business key: the effect itself says what must be there once, and the database sees to it.
@app.task(bind=True, retry_backoff=0.05)
def pay_invoice(self: Context, invoice: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO payment (invoice, amount) VALUES (:invoice, 10) ON CONFLICT (invoice) DO NOTHING"),
            {"invoice": invoice},
        )
    run_it_again(self)


# 2. once(): for effects without a key of their own, such as adding to a balance.
@app.task(bind=True, retry_backoff=0.05)
def add_to_balance(self: Context, account: int, amount: int) -> None:
    with engine.begin() as connection:
        if once(connection):
            connection.execute(
                text("UPDATE account SET balance = balance + :amount WHERE id = :account"),
                {"account": account, "amount": amount},
            )
            outbox.delay(connection, note, f"added {amount}")  # 3. sent if, and only if, this commits
    run_it_again(self)


@app.task
def note(line: str) -> None:
    with engine.begin() as connection:
        if once(connection):
            connection.execute(text("INSERT INTO note (line) VALUES (:line)"), {"line": line})


# 4. An idempotency key: two messages that mean the same. No database needed; a filter, not a guarantee.
@app.task
def send_receipt(order: int) -> str:
    return f"receipt for order {order}, by message {os.urandom(2).hex()}"


# 5. The last sequence number: events of one key, in which a late one has nothing to say any more.
@app.task(bind=True)
def set_address(self: Context, customer: int, version: int, address: str) -> str:
    if not self.newer(f"customer-{customer}", version):
        return f"{address} ignored"
    return f"{address} stored"


def look_up(query: str) -> list[object]:
    with engine.connect() as connection:
        return list(connection.execute(text(query)).scalars())


if __name__ == "__main__":
    create_tables(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE payment (invoice INTEGER PRIMARY KEY, amount INTEGER)"))
        connection.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, balance INTEGER)"))
        connection.execute(text("CREATE TABLE note (line TEXT)"))
        connection.execute(text("INSERT INTO account VALUES (1, 0)"))

    with worker_for(app, "exactly_once:app"):
        for result in (pay_invoice.delay(7), pay_invoice.delay(7)):
            result.get(timeout=10)
        print("payments:", look_up("SELECT amount FROM payment"))

        add_to_balance.delay(1, 30).get(timeout=10)
        print("balance:", look_up("SELECT balance FROM account"))

        relay = OutboxRelay(engine, app)  # in production: taskq outbox-relay
        print("published:", relay.run_once(), "and then", relay.run_once())

        first = send_receipt.options(idempotency_key="order-7").delay(7).get(timeout=10)
        second = send_receipt.options(idempotency_key="order-7").delay(7).get(timeout=10)
        print("same receipt:", first == second)

        for version, address in ((2, "new street"), (1, "old street")):
            print("address:", set_address.delay(1, version, address).get(timeout=10))

    print("notes:", look_up("SELECT line FROM note"))
    Path(DATABASE.removeprefix("sqlite:///")).unlink()
