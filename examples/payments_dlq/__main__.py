"""Play the story: see README.md. Run it: python examples/payments_dlq"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ACCOUNTS, INVOICES = 10, 200


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault("PAYMENTS_DATABASE", f"sqlite:///{directory}/payments.db")
        os.environ.setdefault("PAYMENTS_REPLAY", "* * * * * *")
        sys.path.append(str(HERE.parent))
        import payments
        from surroundings import worker_for

        payments.create_ledger(ACCOUNTS)
        with worker_for(payments.app, "payments:app", "--beat", folder=HERE):
            play()
        payments.engine.dispose()


def play() -> None:
    from payments import app, open_bank, pay
    from surroundings import wait_until

    # every twentieth invoice names an account that does not exist
    for invoice in range(INVOICES):
        pay.delay(invoice, 999 if invoice % 20 == 0 else invoice % ACCOUNTS, 100)
    wait_until(lambda: app.dlq.count() == INVOICES, "all payments to fail: the bank is away")
    for group in app.dlq.groups():
        print(f"dead: {group.count} x {group.error_type}")
    open_bank()
    print("the bank is back")
    hopeless = INVOICES // 20
    wait_until(lambda: booked() == INVOICES - hopeless, "the replays to pay them")
    wait_until(lambda: stopped() and app.dlq.count() == hopeless, "a canary of the rest to fail again")
    print(f"booked: {booked()} of {INVOICES}, each once: {booked() == distinct()}, cents: {balance()}")
    print(f"left: {app.dlq.count()}, each replay stops at their canary")
    letter = app.dlq.list()[-1]
    print(f"one of them: {letter.evidence.error_type}: {letter.evidence.error}, after {letter.replays} replays")


def booked() -> int:
    return query("SELECT count(*) FROM booking")


def distinct() -> int:
    return query("SELECT count(DISTINCT invoice) FROM booking")


def balance() -> int:
    return query("SELECT sum(cents) FROM account")


def stopped() -> bool:
    from payments import app

    return app.dlq.runs(limit=1)[0].state == "stopped"


def query(statement: str) -> int:
    from payments import engine
    from sqlalchemy import text

    with engine.connect() as ledger:
        return int(ledger.execute(text(statement)).scalar_one())


if __name__ == "__main__":
    main()
