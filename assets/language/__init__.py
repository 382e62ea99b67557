"""The table of word vectors and the tool that makes it."""
