"""The `agents.studies.experts` command: `arguments` holds its options, `command` runs it."""
