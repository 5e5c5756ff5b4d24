"""The chaos harness: real processes, faults drawn from a seed, a history kept outside Redis, and a checker.

See ``docs/chaos.md``. By hand: ``python -m tests.chaos run --seed 1 --minutes 1``.
"""
