"""Play one day: see README.md. Run it: python examples/orders"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ORDERS, CUSTOMERS = 300, 20


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault("ORDERS_DATABASE", f"sqlite:///{directory}/orders.db")
        os.environ.setdefault("ORDERS_CRON", "*/2 * * * * *")
        sys.path.append(str(HERE.parent))
        import orders
        from surroundings import worker_for

        orders.create_shop()
        with worker_for(orders.app, "orders:app", "--beat", folder=HERE):
            play()
        orders.engine.dispose()


def play() -> None:
    from orders import app
    from surroundings import wait_until

    for number in range(ORDERS):
        # every hundredth order is for a product that is not in the catalogue yet
        product = "new" if number % 100 == 99 else ("tea", "cup")[number % 2]
        customer = number % CUSTOMERS
        order = {"number": number, "customer": customer, "product": product, "cents": 250}
        app.publish("orders", order, key=f"customer-{customer}")
    wait_until(lambda: query("SELECT count(*) FROM mail") == ORDERS, "the mails")
    wait_until(lambda: query("SELECT coalesce(sum(orders), 0) FROM settlement") == ORDERS, "the settlement")
    wait_until(lambda: query("SELECT count(*) FROM reserved") == ORDERS, "the reservations")
    in_turn = "SELECT count(*) FROM mail a JOIN mail b ON a.customer = b.customer AND a.rowid < b.rowid"
    print(f"mails: {query('SELECT count(*) FROM mail')}, out of turn: {query(in_turn + ' AND a.number > b.number')}")
    print(f"settled: {query('SELECT sum(orders) FROM settlement')} orders,", end=" ")
    print(f"{query('SELECT sum(cents) FROM settlement')} cents")
    print(f"reserved: {query('SELECT count(*) FROM reserved')},", end=" ")
    print(f"mended by the job: {query('SELECT sum(missed) >= 3 FROM settlement') == 1}")
    for group in app.events.groups("orders"):
        print(f"group {group.group}: lag {group.lag}, dropped unread {group.trimmed}")


def query(statement: str) -> int:
    from orders import engine
    from sqlalchemy import text

    with engine.connect() as shop:
        return int(shop.execute(text(statement)).scalar_one())


if __name__ == "__main__":
    main()
