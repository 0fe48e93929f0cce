"""Joint pruning and channel-wise mixed precision."""

from .method import JointMpq

__all__ = ["JointMpq"]
