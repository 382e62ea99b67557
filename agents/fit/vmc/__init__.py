"""Fits `dream_env.world_models.vmc`, World Models (Ha & Schmidhuber 2018): `command` runs the stages of `stages`."""
