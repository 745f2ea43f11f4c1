"""Many trainings on many machines, by engines that exist: what a job is, which jobs there are, and what becomes of them."""
