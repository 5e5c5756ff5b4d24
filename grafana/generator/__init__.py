"""The dashboards as code: one module for each. ``python -m grafana.generator`` writes the JSON beside it."""
