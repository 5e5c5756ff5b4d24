"""Payments to a bank that is not always there: what fails for good waits as a dead letter and is replayed."""

from __future__ import annotations

import os

from sqlalchemy import create_engine, text

from taskq import TaskQ
from taskq.contrib.sqlalchemy import create_tables, once

REPLAY = os.environ.get("PAYMENTS_REPLAY", "*/10 * * * *")
"""When dead letters are replayed: every ten minutes; the example's own run asks for every second."""

app = TaskQ("payments", dlq_replay_schedule=REPLAY, dlq_max_replays=3)
engine = create_engine(os.environ.get("PAYMENTS_DATABASE", "sqlite:///payments.db"), connect_args={"timeout": 30})


class BankUnreachableError(Exception):
    """The bank's server does not answer."""


class UnknownAccountError(Exception):
    """No such account: trying again does not help."""


@app.task(max_retries=1, retry_backoff=0.1)
def pay(invoice: int, account: int, cents: int) -> None:
    """Move money once, however often this runs: the booking and the mark of this message commit together."""
    with engine.begin() as ledger:
        if not once(ledger):
            return
        ledger.execute(
            text("INSERT INTO booking (invoice, account, cents) VALUES (:invoice, :account, :cents)"),
            {"invoice": invoice, "account": account, "cents": cents},
        )
        changed = ledger.execute(
            text("UPDATE account SET cents = cents + :cents WHERE id = :account"), {"account": account, "cents": cents}
        )
        if changed.rowcount == 0:
            raise UnknownAccountError(f"account {account}")
        if not ledger.execute(text("SELECT reachable FROM bank")).scalar_one():
            raise BankUnreachableError("no answer")  # what was booked above is rolled back


def create_ledger(accounts: int) -> None:
    """The tables of the example, with a bank that cannot be reached."""
    create_tables(engine)
    with engine.begin() as ledger:
        ledger.execute(text("CREATE TABLE account (id INTEGER PRIMARY KEY, cents INTEGER NOT NULL)"))
        ledger.execute(text("CREATE TABLE booking (invoice INTEGER, account INTEGER, cents INTEGER)"))
        ledger.execute(text("CREATE TABLE bank (reachable BOOLEAN NOT NULL)"))
        ledger.execute(text("INSERT INTO bank VALUES (0)"))
        ledger.execute(text("INSERT INTO account VALUES (:id, 0)"), [{"id": n} for n in range(accounts)])


def open_bank() -> None:
    """From now on the bank answers."""
    with engine.begin() as ledger:
        ledger.execute(text("UPDATE bank SET reachable = 1"))
