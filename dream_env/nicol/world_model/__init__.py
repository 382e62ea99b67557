"""The state-grounded world model of NICOL, which is fitted with labels of the simulator."""
