"""The command `agents.train`: `arguments` defines its options, `command` runs it."""
