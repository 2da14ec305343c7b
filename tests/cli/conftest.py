"""The command line as a user has it: a process of its own, in an empty folder."""
