"""How far a world model without labels comes: `python -m agents.studies.unlabelled`.

`command` gathers the figures; `probe` says in centimeters where slots are, with labels that the model never saw.
"""
