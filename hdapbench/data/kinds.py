"""Kinds of files by their names, and names as they are shown."""

from __future__ import annotations

from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".dib", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"}
    | {".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Those of torchvision and ultralytics that Pillow reads."""

AUDIO_SUFFIX = ".wav"
TEXT_SUFFIXES = frozenset({".txt", ".yaml", ".yml"})

NOTE_SUFFIXES = TEXT_SUFFIXES | {"", ".cache", ".csv", ".db", ".html", ".ini", ".json", ".md", ".py", ".tsv", ".xml"}
"""What lies beside images without being data."""

MAX_FILE_BYTES = 1 << 28
"""Of one image, recording or text."""


def suffix(name: str) -> str:
    """End of a file's name, in small letters: ``.jpg``."""
    return PurePosixPath(name).suffix.lower()


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder around it, is kept by a system and not by a user: ``.git``, ``._x.jpg``."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's."""
    return suffix(name) in IMAGE_SUFFIXES and not is_hidden(name)


def is_recording(name: str) -> bool:
    """Whether a file's name ends like that of an image or a sound."""
    return suffix(name) in IMAGE_SUFFIXES | {AUDIO_SUFFIX}


def shown(name: str) -> str:
    """Name on one line of any terminal: without control characters, and without bytes that are no text."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in name)
