"""How jobs get to machines: one module per engine, each with `submit(jobs, options)`."""
