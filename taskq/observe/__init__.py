"""Metrics, the doctor, and the endpoints for probes and scrapers."""
