"""The `agents.evaluate` command: `arguments` defines its options, `command` implements it."""
