"""``taskq bench``: how fast taskq is on the user's own Redis, in a namespace that is gone afterwards."""
