"""Many trainings compared: what they are, what came of them, and how sure that is."""
