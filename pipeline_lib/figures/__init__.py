"""One file per figure: its data, and how it is drawn."""
