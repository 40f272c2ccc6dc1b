"""The index that is written to: made, set for loading, verified, synchronised, swapped."""
