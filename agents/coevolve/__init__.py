"""The `agents.coevolve` command: `arguments` defines its options, `command` implements it."""
