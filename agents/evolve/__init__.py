"""The `agents.evolve` command: evolves small controllers inside a world model."""
