"""The model card: what a trained predictor is, and is not."""
