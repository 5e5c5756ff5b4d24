"""Play one night: see README.md. Run it: python examples/coupons"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
CUSTOMERS = 300


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.environ.setdefault("COUPONS_DATABASE", f"sqlite:///{directory}/coupons.db")
        os.environ.setdefault("COUPONS_CRON", "* * * * * *")
        sys.path.append(str(HERE.parent))
        import coupons
        from surroundings import worker_for

        coupons.create_shop(CUSTOMERS)
        with worker_for(coupons.app, "coupons:app", "--beat", "-w", "2", folder=HERE):
            sent = wait_for_all()
        coupons.engine.dispose()
    print(f"coupons sent: {len(sent)}, to {len({customer for customer, _ in sent})} customers")
    times = sorted(at for _, at in sent)
    # fifty at once, fifty a second later, the last fifty two seconds later; what a task writes down is a little late
    print(f"the pace was kept: {times[-1] - times[0] > 1.5}, from the first to the last: {times[-1] - times[0]:.1f} s")


def wait_for_all() -> list[tuple[int, float]]:
    from coupons import engine
    from sqlalchemy import text

    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        with engine.connect() as shop:
            sent = [(row.customer, row.at) for row in shop.execute(text("SELECT customer, at FROM sent"))]
        if len(sent) >= CUSTOMERS // 2:
            return sent
        time.sleep(0.1)
    sys.exit("gave up waiting for the coupons")


if __name__ == "__main__":
    main()
