"""What a program holds: the app, its tasks, and what it sends, awaits and looks at."""
