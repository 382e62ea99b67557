"""Recording of episodes, shared by the commands."""
