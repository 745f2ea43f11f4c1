"""Where images come from: one module per dataset, bytes in, rows out."""
