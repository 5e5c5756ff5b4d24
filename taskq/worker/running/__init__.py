"""Running a delivery: the runner, time limits, the executors."""
