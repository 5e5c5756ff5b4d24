"""Plain values: settings, messages, schedules, names. Nothing here knows Redis or starts a thread."""
