"""A batch job that sums up the events of its window."""

import time
from pathlib import Path

import tally

from taskq import TaskQ, Window, cron

app = TaskQ("bench", broker_url=tally.REDIS_URL)
app.topic("orders")


def resident_mb() -> float:
    """What this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@app.batch_job(cron("0 1 * * *"), source="orders", name="settle", max_retries=0)
def settle(window: Window) -> list[float]:
    """Count, seconds, growth of the process in MB."""
    begin, before, most = time.perf_counter(), resident_mb(), 0.0
    count = total = 0
    for page in window.pages():
        for event in page:
            total += event.payload["amount"]
        count += len(page)
        page.commit([count, total])
        if count % 100_000 < len(page):
            most = max(most, resident_mb())
    return [count, time.perf_counter() - begin, max(most, resident_mb()) - before]
