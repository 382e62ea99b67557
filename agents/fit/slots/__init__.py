"""Fit of `dream_env.world_models.slots`: `colours` finds what slots there are, `stages` train, `command` runs it.

A few labelled episodes come in by `labels`.
"""
