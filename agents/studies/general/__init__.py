"""Is the core general? World models of small environments, a learner trained in them only, and the real thing."""
