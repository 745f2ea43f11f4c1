"""What can be wrong with a checkout, and what may be put right without asking: a module per area."""
