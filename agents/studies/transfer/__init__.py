"""Does practice in the dream pay in physics? The transfer experiment, `python -m agents.studies.transfer`.

`command` runs the trials that `plan` lists; `methods` makes the policies, `physics` those that learn in physics alone;
`policies` keeps them on disk and `meter` counts the time that they took; `results` counts what was played, `summary`
draws the figures from it, and `report` writes the files.
"""
