"""Fidelity report of a world model: dream compared with physics on held-out seeds, `python -m agents.fidelity`.

`command` runs all measurements. `replay` records episodes in physics and repeats their actions in the dream, `figures`
computes the errors, `uncertainty` compares disagreement with the errors, and `ranking` checks whether the dream ranks
policies as physics does. `report` writes the verdict and the tables, `pictures` draws the plots.
"""
