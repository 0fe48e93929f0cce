"""Task names of specs -> tasks."""

from __future__ import annotations

from hdapbench.tasks.classification import Classification
from hdapbench.tasks.detection import Detection
from hdapbench.tasks.task import Task


def open_task(name: str) -> Task:
    """Task of a spec.

    Raises
    ------
    KeyError
        When the name is unknown; specs hold no such name.
    """
    return {task.name: task for task in (Classification(), Detection())}[name]
