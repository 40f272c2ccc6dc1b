"""OpenSearch and Elasticsearch, over REST."""
