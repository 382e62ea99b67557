"""Constants that the fits of all world models share."""

CHANGED = 16 / 255
"""Smallest difference to the background, for values in [0, 1], for a pixel to count as foreground."""
MOST_STARTS = 1200
"""Default of the largest number of initial states to save; with more pictures, files become large."""
QUANTILE = 0.999
"""Quantile of the disagreement, over the steps of held-out episodes, that is the calibrated threshold."""
