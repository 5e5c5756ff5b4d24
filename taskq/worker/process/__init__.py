"""The worker as operating system processes: start, signals, supervision, the end."""
