"""Metrics and intervals, and what became of the training labels."""
