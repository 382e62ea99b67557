"""Fits a world model to recorded episodes: `python -m agents.fit`.

Each kind of world model has its own modules, which `kinds` lists. They share `trainer` (training in stages that can be
resumed after a kill; `agents.clone` uses it, too), `distributed` (training by several processes) and the optimizer
`muon`.
"""
