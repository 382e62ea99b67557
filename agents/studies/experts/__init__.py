"""agents.studies.experts: `arguments` is what it can be told, `command` what it does."""
