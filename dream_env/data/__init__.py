"""Recorded episodes: on disk in the LeRobotDataset v3 layout, in memory as arrays."""
