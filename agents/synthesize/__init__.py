"""The `agents.synthesize` command: `arguments` defines its options, `command` implements it."""
