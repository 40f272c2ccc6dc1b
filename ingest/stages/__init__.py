"""The stages of the pipeline, one file a thread: read, tokenize, encode, render, send."""
