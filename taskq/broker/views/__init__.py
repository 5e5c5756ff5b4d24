"""The read side: what is in Redis, for results, views, metrics and the doctor. Every read is bounded."""
