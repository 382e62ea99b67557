"""Fit of `dream_env.world_models.slots`: `colours` finds what slots there are, `stages` train, `command` runs it."""
