"""Fits `dream_env.world_models.unified`: world model and policy in one network."""
