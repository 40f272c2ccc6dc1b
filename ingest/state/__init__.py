"""What an ingest keeps: checkpoint, dead letters, results, term statistics."""
