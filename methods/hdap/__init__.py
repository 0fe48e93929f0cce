"""HDAP: homogeneous-device aware pruning (arXiv 2501.15240), in our form."""

from .method import Hdap

__all__ = ["Hdap"]
