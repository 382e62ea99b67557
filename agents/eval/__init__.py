"""What the commands share about evaluation: rollouts, results, statistics, pictures."""
