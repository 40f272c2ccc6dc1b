"""The page: ways of searching side by side, in a browser."""
