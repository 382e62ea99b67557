"""The state-grounded world model of NICOL: fitted with the labels that its simulator gives."""
