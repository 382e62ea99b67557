"""Adapters of the dream environments to Stable-Baselines3, rl_zoo3, skrl and LeRobot."""
