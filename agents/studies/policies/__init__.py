"""Policies with a world model inside, beside plain ones: `python -m agents.studies.policies`.

`rows` says what each row of the table is and makes its policies, `report` reduces episodes to cells, a summary and a
page, `command` does all of it.
"""
