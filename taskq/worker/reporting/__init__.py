"""What a worker tells views and probes about itself."""
