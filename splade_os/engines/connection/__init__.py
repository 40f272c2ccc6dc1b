"""How a cluster is reached: credentials, TLS, options of a client."""
