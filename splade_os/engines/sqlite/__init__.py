"""SQLite as an engine."""
