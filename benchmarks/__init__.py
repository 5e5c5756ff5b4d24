"""What taskq costs, next to the bare loops that are its limit and next to other queues: ``python -m benchmarks``."""
