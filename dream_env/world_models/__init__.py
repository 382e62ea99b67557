"""World models: the protocol, the latent token model, and their files."""
