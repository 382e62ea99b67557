"""One picture of each policy with a world model inside: `python -m agents.studies.imagined`.

`drawings` makes them, `command` says of what.
"""
