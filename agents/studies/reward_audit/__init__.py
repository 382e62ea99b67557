"""Which rewards mean what they say, by held-out physics: `python -m agents.studies.reward_audit`.

`command` audits every reward; `scenes` plays ways to do a task and ways to only look as if, `measures` counts in them,
and `report` writes table and plot.
"""
