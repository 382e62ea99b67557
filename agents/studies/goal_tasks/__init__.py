"""Tasks whose goal is shown, from demonstrations to practice in the dream: `python -m agents.studies.goal_tasks`.

`policies` makes and plays a policy, `report` reduces episodes to cells, a summary and a page, `command` does all of it.
"""
