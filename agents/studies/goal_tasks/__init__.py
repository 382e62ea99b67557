"""Tasks with goal pictures, from demonstrations to practice in the dream: `python -m agents.studies.goal_tasks`.

`policies` trains and evaluates policies, `report` reduces episodes to cells, a summary and a page, `command` runs all.
"""
