"""Where trials run: one after another in this process, in worker processes, or on the machines of a Ray cluster.

- ``choose``: executors by name, and the one that suits a run
- ``inline``: this process
- ``process``: worker processes of this machine
- ``on_ray``: a Ray cluster; ``ray_host``: what runs on its nodes; ``luggage``: what travels there
- ``slot``: one worker process, seen from the run that started it
- ``guard``: ends workers when the run is gone
- ``worker``: what a worker process does
- ``message``: what the two tell each other
"""
