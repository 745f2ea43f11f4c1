"""Backbones, and the classifier and predictor around them."""
