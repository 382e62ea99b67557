"""Measures a world model fitted without labels: `python -m agents.studies.unlabelled`.

`command` collects the figures. `probe` measures positions of slots in centimeters, with labels that the model was not
fitted to; `lifts` measures wrong lifts in dreams, and `labelled` the effect of a few labelled episodes.
"""
