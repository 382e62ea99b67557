"""Commands that reproduce the tables of the README: `python -m agents.studies.NAME`."""
