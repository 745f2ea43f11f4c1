"""One file per dataset: bytes in, rows out; knows nothing of splits or methods."""
