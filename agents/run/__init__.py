"""What all commands use to run: the command line, worker processes, run folders, hashes of sources."""
