"""The command `agents.clone`: `kinds` lists the kinds of policies; each has a module of arguments and one that runs."""
