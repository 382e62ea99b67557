"""Fits `dream_env.world_models.slots`: `colours` finds the slots, `stages` trains, and `command` runs the fit.

`labels` trains position predictions from a few labelled episodes.
"""
