"""Compares policies with a built-in world model with plain ones: `python -m agents.studies.policies`.

`rows` defines the rows of the table and trains their policies, `report` reduces episodes to cells, a summary and a
page, `command` runs all.
"""
