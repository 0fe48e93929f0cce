"""Fleets of boards that commands reach, and jobs for boards that nothing reaches.

- ``boards``: BoardFleet, boards visited in rounds; who fails is quarantined with the reason
- ``fleet``: CommandFleet, where a visit is a command
- ``commands``: templates -> words of a command
- ``calls``: one command, with limits on its time and output
- ``answers``: what boards say, checked, and samples with drift divided out
- ``jobs``: models, orders and results that travel as files: ask and tell
- ``board_runner``: what runs on a board; one file that needs no hdapbench
"""
