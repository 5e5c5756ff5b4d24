"""Helpers of the test suite; import them as ``support.<module>``."""
