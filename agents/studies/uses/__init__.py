"""The `agents.studies.uses` command: `arguments` holds its options, `command` runs it."""
