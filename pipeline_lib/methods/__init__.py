"""One file per method: what it looks at, and one training step."""
