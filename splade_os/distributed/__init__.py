"""Beyond one machine: the same load, and the same encoding, on a Ray cluster (extra ``ray``)."""
