"""NICOL, the humanoid robot of the Knowledge Technology group (Hamburg), modeled with primitive shapes in PyBullet.

`urdf` writes the robot description, `kinematics` solves forward and inverse kinematics of the arms, `robot` controls
the robot in a PyBullet client, and `grasp` holds the hand preset of a friction grasp. Importing this package does not
import PyBullet.
"""
