"""Registered schedules: their definitions in Redis, and what can be asked of and done to them."""
