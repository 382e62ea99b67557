"""Evolution of small controllers inside the dream."""
