"""The figures of a comparison: `data(...)` makes a frame, `draw(frame, theme)` a figure."""
