"""Which reward practice should pay, by what physics says of the policies: `python -m agents.studies.practice_rewards`.

`rows` trains and plays, `report` reduces episodes to cells, a summary and a page, `command` does all of it.
"""
