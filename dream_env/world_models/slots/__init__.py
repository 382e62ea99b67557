"""Object-centric world model that needs no labels: one slot per object color, and a step-count embedding.

`model` is the world model and `config` its configuration. `reader` extracts slots from images, `dynamics` predicts
them, `distance` computes the embedding (conditioned on the instruction), and `painter` renders slots as images. With a
few labelled episodes, `position` predicts object positions in meters.
"""
