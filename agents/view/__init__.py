"""The `agents.view` command: `arguments` holds its options, `command` runs it."""
