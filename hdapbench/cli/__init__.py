"""The command line: one command per file, each parses, makes one library call and prints."""
