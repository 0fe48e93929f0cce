"""Fleets of boards that joined a Ray cluster: each is a node with a resource that names it.

- ``fleet``: RayFleet, where a visit is a task pinned to a board
- ``link``: the one process here that talks to the cluster, with a time limit on every answer
- ``driver``: what runs in that process, and the task that runs on boards
"""
