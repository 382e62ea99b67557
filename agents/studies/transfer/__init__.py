"""Does practice in the dream pay in physics? The transfer study, `python -m agents.studies.transfer`.

`command` runs the trials that `plan` lists; `methods` makes the policies and `policies` keeps them on disk; `results`
counts what was played, and `report` writes the files.
"""
