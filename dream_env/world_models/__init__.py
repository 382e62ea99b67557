"""World models: the protocol, the models and their building blocks, and checkpoints."""
