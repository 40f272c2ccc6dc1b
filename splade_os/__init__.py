"""SPLADE for OpenSearch and Elasticsearch, from the client side."""
