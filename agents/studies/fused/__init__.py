"""One network instead of two: `python -m agents.studies.fused`.

`command` compares a unified model with the world model and the policy that it replaces; `speed` measures times.
"""
