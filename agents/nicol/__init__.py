"""What the commands share for NICOL alone: its VLA, behaviors, encoded episodes and rollouts in physics."""
