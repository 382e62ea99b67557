"""Table of word vectors, and the script that builds it."""
