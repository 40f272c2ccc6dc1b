"""OpenSearch's own query encoding: ML Commons and search pipelines."""
