"""Benchmark of world model and environments on this machine: `python -m agents.studies.bench`.

`command` runs every measurement. `cases` defines the measurements without a learner, `learn` those with a learner,
`peers` those of other wrappers of the same world model. `clock` times a case, `start` measures startup and memory, and
`report` writes the files.
"""
