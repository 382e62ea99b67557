"""The `agents.plan` command: `arguments` defines its options, `command` implements it."""
