"""Policies, which map observations to actions, and their wrappers for reinforcement learning."""
