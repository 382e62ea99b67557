"""Pictures of the predictions of policies with a built-in world model: `python -m agents.studies.imagined`.

`drawings` draws the pictures, `command` selects models and episodes.
"""
