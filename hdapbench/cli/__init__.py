"""The command line: one command per file, each parses, makes one library call and prints.

- main: the entry point, exit codes, and the list of commands
- options: options that several commands share
- progress: progress of a run, on stderr
- board_forms: pages and pictures of boards
- run, check, board, show, explain, export, measure, schema, doctor: a command each
- methods: list, describe, begin and test methods
- fleet: make and measure fleets, and estimate their averages
"""
