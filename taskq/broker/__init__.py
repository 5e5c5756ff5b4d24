"""Redis: the keys, the scripts, and the drivers that run them. Nothing outside this package speaks to Redis."""
