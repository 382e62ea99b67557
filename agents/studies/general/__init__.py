"""Tests the package on small environments: learners trained only in world models, evaluated in the real environment."""
