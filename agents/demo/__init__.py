"""The command `agents.demo`: `arguments` defines its options, `command` runs it."""
