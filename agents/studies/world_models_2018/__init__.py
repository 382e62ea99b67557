"""World Models (Ha & Schmidhuber 2018) remade small: controllers evolved in the dream, and outside."""
