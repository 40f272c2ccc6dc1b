"""Ways of storing vectors: what a server can do, mappings, document values, query shapes."""
