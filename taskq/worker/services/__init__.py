"""Periodic work of a worker beside the exchange."""
