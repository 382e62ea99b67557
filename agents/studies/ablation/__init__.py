"""Ablation of the world model: fits that differ in one choice each, `python -m agents.studies.ablation`.

`command` runs the table and writes its report; `row` fits and measures one row.
"""
