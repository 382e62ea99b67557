"""What the commands share about running: workers, run folders, hashes of sources."""
