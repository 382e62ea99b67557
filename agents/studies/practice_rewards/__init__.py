"""Compares rewards for practice by the success in physics: `python -m agents.studies.practice_rewards`.

`rows` trains and evaluates, `report` reduces episodes to cells, a summary and a page, `command` runs all.
"""
