"""arq's worker."""

import app
from arq import run_worker

run_worker(app.WorkerSettings)  # type: ignore[arg-type]
