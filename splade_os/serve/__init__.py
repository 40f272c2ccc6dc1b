"""Searches over HTTP: an API, and a page to look at them (extra ``serve``)."""
