"""The transfer study: does practice in the dream improve success in physics? `python -m agents.studies.transfer`.

`command` runs the trials that `plan` lists, `methods` trains the policies, `policies` stores them on disk, `results`
computes the figures, and `report` writes the files.
"""
