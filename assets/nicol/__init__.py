"""NICOL's description, a picture of it, and patterns of tables."""
