"""Folders of other machines: SQLite must not keep its write-ahead log there, which is shared memory of one machine."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|fuse(\..*)?|9p|virtiofs|ceph|glusterfs|lustre|gpfs|beegfs|afs|ocfs2|gfs2|ncpfs|davfs\d?|vboxsf|"
    r"prl_fs|vmhgfs"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def network_folder_kind(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Kind of file system, such as ``nfs4``, where a path lies in a folder that other machines may have too; else None.

    Only Linux tells; elsewhere a folder counts as one of this machine.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    path = path.resolve()
    found = (-1, "")
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(_ESCAPED.sub(lambda match: chr(int(match[1], 8)), before.split()[4]))
        if path.is_relative_to(point):
            # Of several on one point the last one lies on top.
            found = max((len(point.parts), after.split()[0]), found, key=lambda one: one[0])
    return found[1] if _NETWORK.fullmatch(found[1]) else None
