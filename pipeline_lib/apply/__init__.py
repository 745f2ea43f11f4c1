"""A trained predictor in use: on images of anybody, and in files for other programs."""
