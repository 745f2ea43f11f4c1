"""Which images train, validate and test, and how their labels are weakened: one module per protocol."""
