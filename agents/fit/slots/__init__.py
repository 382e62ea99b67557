"""Fits `dream_env.world_models.slots`: `colors` finds the slots, `stages` trains, and `command` runs the fit.

`labels` trains position predictions from a few labelled episodes.
"""
