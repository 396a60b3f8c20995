"""The subcommands by topic: each parses, calls and prints, and is put into the command by `register`."""
