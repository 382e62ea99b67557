"""A world model that needs no labels: things of one colour each as slots, and an embedding that counts steps.

`model` is the world model; `config` its shape; `reader` finds slots in pictures, `dynamics` moves them, `distance`
embeds them under a sentence, and `painter` draws them. A few labels add `position`.
"""
