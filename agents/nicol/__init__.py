"""Parts of the commands that are specific to NICOL: its VLA, behaviors, encoded episodes and evaluation rollouts."""
