"""Recorded episodes: stored on disk in the LeRobotDataset v3 layout, and loaded as arrays."""
