"""What reading a damaged table raises."""

from __future__ import annotations


def table_errors() -> tuple[type[BaseException], ...]:
    """Errors of polars on files that are no tables, and of notes in them that are not as expected.

    Its panics are no `Exception`, and would end the program.
    """
    from polars import exceptions

    return (
        *(exceptions.PolarsError, exceptions.PanicException, OSError),
        *(KeyError, TypeError, ValueError, AttributeError, RecursionError),
    )
