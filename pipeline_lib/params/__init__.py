"""params.yaml: what it may say, and the part of it that each stage sees.

Imports no torch and no polars, so that `configure` answers in a fraction of a second.
"""
