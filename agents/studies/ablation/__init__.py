"""What makes the world model good: fits that differ in one choice each, `python -m agents.studies.ablation`.

`command` lists and runs the table and writes its report; `row` fits, dreams and measures one row of it.
"""
