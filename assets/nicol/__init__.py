"""NICOL's robot description, an image of the robot, and table textures."""
