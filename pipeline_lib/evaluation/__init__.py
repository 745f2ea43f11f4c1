"""How good a predictor is, and what became of the training labels."""
