"""Dreams for learners with an interface of their own: Stable-Baselines3, rl_zoo3, skrl."""
