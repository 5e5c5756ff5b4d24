"""One queue as this worker holds it: its deliveries, what is to be settled, its connection."""
