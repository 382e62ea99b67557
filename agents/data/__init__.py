"""What the commands share about episodes: behaviors that record them, encoded data sets, start states."""
