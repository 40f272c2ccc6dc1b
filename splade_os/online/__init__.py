"""One document at a time: write, change, delete and search, for an application."""
