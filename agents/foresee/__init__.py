"""The `agents.foresee` command: `arguments` defines its options, `command` implements it."""
