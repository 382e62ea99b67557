"""Small reproduction of World Models (Ha & Schmidhuber 2018): controllers evolved in the dream and in the game."""
