"""Data files of the package, loaded through `importlib.resources`: robot, checkpoints, initial states."""
