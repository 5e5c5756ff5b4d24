"""Connections to Redis: addresses, the protocol, the sync and the async driver, notifications."""
