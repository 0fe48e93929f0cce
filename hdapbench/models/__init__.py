"""Networks to compress, and their weights.

build: the network that a spec names.
resnet: ResNets for small images.
vgg: VGG16 for small images.
mobilenet: MobileNetV1.
tiny: networks of microcontroller benchmarks.
pooled: the head that most of these share.
torchvision_models: torchvision's classifiers and published weights.
yolo: ultralytics' networks.
attention: attention whose heads can be cut, in place of that of others.
user_code: networks of a callable that the user names.
outputs: class scores among what a network returns.
starting: weights of a network for other classes.
weights: state dicts, loaded strictly and hashed.
keeping: state dicts that the program keeps for itself, checked when they are read.
checkpoint: weights of ultralytics' files, whose code is not run.
"""

from hdapbench.models.build import ZOO, build_model
from hdapbench.models.keeping import keep_state, kept_state, write_tensors
from hdapbench.models.outputs import tensors_of
from hdapbench.models.resnet import calibrate_identity_shortcuts
from hdapbench.models.starting import load_start
from hdapbench.models.torchvision_models import check_published, published_state
from hdapbench.models.weights import load_state, load_weights, read_state, state_hash
from hdapbench.models.yolo import quiet_ultralytics

__all__ = [
    "ZOO",
    "build_model",
    "calibrate_identity_shortcuts",
    "check_published",
    "keep_state",
    "kept_state",
    "load_start",
    "load_state",
    "load_weights",
    "published_state",
    "quiet_ultralytics",
    "read_state",
    "state_hash",
    "tensors_of",
    "write_tensors",
]
