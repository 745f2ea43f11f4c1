"""Comparisons on several datasets put together."""
