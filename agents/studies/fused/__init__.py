"""One network in the place of two: `python -m agents.studies.fused`.

`command` gathers the figures of a unified model beside the world model and the policy that it replaces; `speed` clocks.
"""
