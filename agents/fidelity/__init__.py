"""May one train in a world model? Dream against physics on held-out seeds, `python -m agents.fidelity`.

`command` measures it all; `replay` plays episodes in physics and repeats their actions in the dream, `figures` tells
how far both lie apart, `uncertainty` whether the model knows it, and `ranking` whether both worlds order policies
alike; `report` writes verdict and tables, `pictures` draws.
"""
