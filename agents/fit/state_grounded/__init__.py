"""Fits a `StateGroundedModel` to NICOL's episodes, with the labels that its simulator gives.

`command` runs the stages of `stages`, `dynamics` and `joint`, whose losses stand in `losses`; `hindsight` and `pairs`
label frames for the success head and the metric; `calibrate` sets thresholds and `card` writes the model card.
"""
