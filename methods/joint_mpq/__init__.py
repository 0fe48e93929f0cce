"""Joint pruning and channel-wise mixed precision."""

from methods.joint_mpq.method import JointMpq

__all__ = ["JointMpq"]
