"""Which images a person should label next."""
