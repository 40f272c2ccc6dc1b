"""Models and tables in other forms, each checked against the original when it is written."""
