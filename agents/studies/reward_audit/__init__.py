"""Checks which rewards measure real progress, in held-out physics: `python -m agents.studies.reward_audit`.

`command` audits every reward. `scenes` records ways to do a task and ways to only appear to do it, `measures` computes
figures from them, and `report` writes the table and the plot.
"""
