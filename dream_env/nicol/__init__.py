"""NICOL, the humanoid of Knowledge Technology (Hamburg), as primitive shapes in PyBullet.

`urdf` writes the robot description, `kinematics` solves the arms, `robot` drives it in a PyBullet
client and `grasp` holds the hand preset of a friction grasp. Importing this package is light:
PyBullet is imported by `robot` alone.
"""
