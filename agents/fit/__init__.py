"""Fits the default world model to recorded episodes: `python -m agents.fit`.

`command` runs the stages of `stages`, `dynamics` and `joint`, whose losses stand in `losses`; `hindsight` and `pairs`
label frames for the success head and the metric; `calibrate` sets thresholds and `card` writes the model card.
`trainer` runs any stage so that it survives a kill, `distributed` by several processes; `agents.apg` uses the trainer
too.
"""
