"""Fits `dream_env.world_models.dynamics`, an ensemble for any environment: `command` runs the stages of `stages`."""
