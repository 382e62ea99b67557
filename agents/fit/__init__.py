"""Fits a world model to recorded episodes: `python -m agents.fit`.

One folder for each kind of world model; `__main__` picks it. They share `trainer`, which runs any stage so that it
survives a kill, `distributed`, which runs it by several processes, and the optimizer `muon`; `agents.apg` uses the
trainer too.
"""
