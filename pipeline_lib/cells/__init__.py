"""The cells of a comparison: which there are, what params they have, and the folder that each runs in."""
