"""The zoo, adapters to other packages' models, and weights."""

from hdapbench.models.build import ZOO, build_model
from hdapbench.models.resnet import calibrate_identity_shortcuts
from hdapbench.models.torchvision_models import published_state
from hdapbench.models.user_code import source_file
from hdapbench.models.weights import load_state, load_weights, read_state, state_hash
from hdapbench.models.yolo import quiet_ultralytics

__all__ = [
    "ZOO",
    "build_model",
    "calibrate_identity_shortcuts",
    "load_state",
    "load_weights",
    "published_state",
    "quiet_ultralytics",
    "read_state",
    "source_file",
    "state_hash",
]
