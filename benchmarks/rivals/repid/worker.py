"""repid's worker."""

import asyncio
import os

from app import app


async def main() -> None:
    async with app.servers.default.connection():
        await app.run_worker(tasks_limit=int(os.environ.get("REPID_TASKS", "1000")))


asyncio.run(main())
