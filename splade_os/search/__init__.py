"""Query text → encoded terms → request → `Results`."""
