"""What the pages read from Redis: bounded, without KEYS or scans of the key space, and never in a worker's way."""
