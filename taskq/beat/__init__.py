"""Beat: fires schedules. Everything else that happens by time is done by every worker."""
