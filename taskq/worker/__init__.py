"""The worker process: fetch, run, settle, and keep what it holds."""
