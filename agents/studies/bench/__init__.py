"""What dreaming costs on this machine: `python -m agents.studies.bench`.

`command` runs every measurement; `cases` has those without a learner, `learn` those with one, `peers` other wrappers of
the same world model; `clock` times a case, `start` measures starting and memory, `report` turns figures into files.
"""
