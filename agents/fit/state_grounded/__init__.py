"""Fits a `StateGroundedModel` to NICOL's episodes, using labels from its simulator.

`command` runs the stages, which are defined in `stages`, `dynamics`, `joint` and `painting`, with their losses in
`losses`. `hindsight` and `pairs` label frames for the success head and the metric; `calibrate` sets thresholds; `card`
writes the model card.
"""
