"""The package's data, found through `importlib.resources`: robot, checkpoints, start bank."""
