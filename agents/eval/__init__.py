"""Evaluation code shared by the commands: rollouts, results, statistics and pictures."""
