"""The exchange with Redis: fetch what there are slots for, settle what has ended."""
