"""Policies: what maps observations to actions, and the learners' forms of them."""
