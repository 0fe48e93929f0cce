"""Small networks as users write them: some that run from spec to board, others that are refused before training.

Each function is a model's callable. `REFUSED` says what of a refusal's line must be there; all others run.
"""

from __future__ import annotations

import sys
import threading
from collections import namedtuple
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, weight_norm
from torch.utils.checkpoint import checkpoint

REFUSED = {
    "five_outputs": "the model gives 5 outputs, the data have 10 classes",
    "outputs_of_imagenet": "the model gives 1000 outputs, the data have 10 classes",
    "one_output": "a tensor of shape (2,) for 2 images",
    "map_of_scores": "a tensor of shape (2, 10, 12, 12) for 2 images",
    "class_numbers": "a tensor of torch.int64",
    "two_scores": "a tuple of 2 ((2, 10), (2, 10))",
    "scores_and_auxiliary_scores_in_training": "a tuple of 2 ((2, 10), (2, 10))",
    "dataclass_of_scores": "returns a Outputs (no tensors)",
    "nothing": "returns a NoneType (no tensors)",
    "dropout_always": "two runs on one input differ",
    "counts_its_calls": "two runs on one input differ",
    "norm_without_statistics": "does not run in evaluation mode on a batch of one",
    "changes_its_input": "changes its input in place",
    "logarithms_of_negatives": "outputs are not finite",
    "never_learns": "cannot be trained",
    "all_frozen": "cannot be trained",
    "fails_in_training": "does not run in training mode, images 2x3x16x16: ValueError: no targets",
    "wants_targets": "does not run in evaluation mode, images 2x3x16x16: TypeError",
    "wrong_size": "does not run in evaluation mode, images 2x3x16x16: RuntimeError",
    "double_precision": "does not run in evaluation mode, images 2x3x16x16: RuntimeError",
    "lazy_and_never_run": "lazy layers have no shapes yet (spare.weight",
    "lock_inside": "cannot be copied",
    "low_rank": "'2' (LowRank: down, up)",
    "old_weight_norm": "'0' (Conv2d: weight_g, weight_v)",
    "new_weight_norm": "'0.parametrizations.weight' (ParametrizationList)",
    "convolves_twice": "'0' (Twice) computes",
    "skips_its_work": "'0' (Lazybones) computes",
    "pools_by_convolution": "'1' (Blur) computes",
    "tied_weights": "weights that two layers share",
    "patches_as_batch": "'conv' (Conv2d) computes",
    "branch_on_the_image": "depends on the image",
    "attention": "'bmm'",
    "free_convolution": "(FreeConvolution)",
    "fixed_blur": "'convolution'",
    "transposed": "(ConvTranspose2d)",
    "learned_slopes": "(PReLU)",
    "no_layers": "cannot be trained",
    "one_layer": "no channel group of Sequential can be pruned",
    "returns_a_function": "not a torch.nn.Module",
    "raises": "RuntimeError: two lines",
    "exits": "SystemExit",
    "scripted": "compiled network",
}


class Net(nn.Module):
    """Layers as attributes and a function as forward, to keep networks short."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.run = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.run(self, x)


def conv(n_in, n_out, size=3, **more):
    return nn.Conv2d(n_in, n_out, size, padding=size // 2, **more)


def body(*extra, n_out=8):
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), conv(8, n_out), nn.ReLU(), *extra)


def head(n_in, n_out):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_in, n_out))


def pooled(n_classes, run, **layers):
    return Net(lambda net, x: net.head(run(net, x)), **layers, head=head(8, n_classes))


# What runs


def view_after_convolution(n_classes):
    return Net(lambda n, x: n.f(n.body(x).view(x.size(0), -1)), body=body(), f=nn.Linear(8 * 64, n_classes))


def scores_and_features(n_classes):
    return Net(lambda n, x: (n.head(n.body(x)), n.body(x)), body=body(), head=head(8, n_classes))


def features_then_scores(n_classes):
    return Net(lambda n, x: [n.body(x).mean((2, 3)), n.head(n.body(x))], body=body(), head=head(8, n_classes))


def mapping_of_scores(n_classes):
    return Net(lambda n, x: {"logits": n.head(n.body(x)), "map": n.body(x)}, body=body(), head=head(8, n_classes))


def named_scores_among_others(n_classes):
    layers = {"body": body(), "head": head(8, n_classes), "aux": head(8, n_classes)}
    return Net(lambda n, x: {"out": n.head(n.body(x)), "aux": n.aux(n.body(x))}, **layers)


def named_tuple(n_classes):
    kind = namedtuple("kind", "scores embedding")
    return Net(lambda n, x: kind(n.head(n.body(x)), n.body(x).mean((2, 3))), body=body(), head=head(8, n_classes))


def features_in_training_only(n_classes):
    def run(net, x):
        scores = net.head(net.body(x))
        return (scores, net.body(x)) if net.training else scores

    return Net(run, body=body(), head=head(8, n_classes))


def child_named_module(n_classes):
    return Net(lambda n, x: n.module(x), module=nn.Sequential(body(), head(8, n_classes)))


def data_parallel(n_classes):
    return nn.DataParallel(nn.Sequential(body(), head(8, n_classes)))


def lazy(n_classes):
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(n_classes))


def linear_on_maps(n_classes):
    def run(net, x):
        x = net.a(x).relu().permute(0, 2, 3, 1)
        x = x + net.f2(net.f1(x).relu())
        return net.fc(x.mean((1, 2)))

    return Net(run, a=conv(3, 8), f1=nn.Linear(8, 12), f2=nn.Linear(12, 8), fc=nn.Linear(8, n_classes))


def tokens(n_classes):
    def run(net, x):
        x = net.patch(x).flatten(2).transpose(1, 2)
        return net.fc(net.f2(net.f1(net.norm(x)).relu()).mean(1))

    layers = {"norm": nn.LayerNorm(8), "f1": nn.Linear(8, 12), "f2": nn.Linear(12, 6), "fc": nn.Linear(6, n_classes)}
    return Net(run, patch=nn.Conv2d(3, 8, 4, 4), **layers)


def layers_called_by_keyword(n_classes):
    return pooled(n_classes, lambda n, x: n.b(input=n.a(input=x).relu()).relu(), a=conv(3, 8), b=conv(8, 8))


class Same(nn.Conv2d):
    """Pads so that the size stays: no more work than its base."""

    def forward(self, x):
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


def subclass_that_pads(n_classes):
    return nn.Sequential(Same(3, 8, 3), nn.ReLU(), Same(8, 8, 3), nn.ReLU(), head(8, n_classes))


def residual(n_classes):
    run = lambda n, x: n.a(x).relu() + n.c(n.b(n.a(x).relu()).relu())  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 6), c=conv(6, 8))


def in_place_sum(n_classes):
    def run(net, x):
        x = net.a(x).relu_()
        y = net.b(x)
        y += x
        return y.relu_()

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def concatenated(n_classes):
    run = lambda n, x: n.c(torch.cat([n.a(x), n.b(x)], 1).relu())  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 6), b=conv(3, 4, 1), c=conv(10, 8))


def squeeze_and_excite(n_classes):
    run = lambda n, x: n.a(x) * n.e(n.s(n.a(x).mean((2, 3), keepdim=True)).relu()).sigmoid()  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 8), s=nn.Conv2d(8, 4, 1), e=nn.Conv2d(4, 8, 1))


def spatial_attention(n_classes):
    run = lambda n, x: n.body(x) * n.m(n.body(x).mean(1, keepdim=True)).sigmoid()  # noqa: E731
    return pooled(n_classes, run, body=body(), m=conv(1, 1))


def depthwise(n_classes):
    return nn.Sequential(conv(3, 8), conv(8, 8, groups=8), nn.ReLU6(), conv(8, 12, 1), nn.SiLU(), head(12, n_classes))


def grouped(n_classes):
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8, groups=2), nn.ReLU(), conv(8, 12), head(12, n_classes))


def odd_kernels(n_classes):
    first, second = nn.Conv2d(3, 8, (1, 5), stride=(1, 2)), nn.Conv2d(8, 8, 3, dilation=2, padding="same", bias=False)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), head(8, n_classes))


def norms_of_all_kinds(n_classes):
    norms = nn.GroupNorm(2, 8), nn.BatchNorm2d(8, affine=False), nn.InstanceNorm2d(8)
    return nn.Sequential(conv(3, 8), norms[0], conv(8, 8), norms[1], conv(8, 8), norms[2], head(8, n_classes))


def one_layer_called_twice(n_classes):
    return pooled(n_classes, lambda n, x: n.b(n.b(n.a(x)).relu()), a=conv(3, 8), b=conv(8, 8))


def layer_that_never_runs(n_classes):
    return pooled(n_classes, lambda n, x: n.b(n.a(x).relu()), a=conv(3, 6), b=conv(6, 8), spare=conv(4, 5))


def frozen_backbone(n_classes):
    net = nn.Sequential(body(), head(8, n_classes))
    net[0].requires_grad_(False)
    return net


def dropout_and_softmax(n_classes):
    return nn.Sequential(body(nn.Dropout2d(0.2)), head(8, 16), nn.Dropout(), nn.Linear(16, n_classes), nn.LogSoftmax(1))


def resized(n_classes):
    run = lambda n, x: functional.interpolate(n.b(functional.max_pool2d(n.a(x), 2)), scale_factor=2.0) + n.a(x)  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def shuffled(n_classes):
    run = lambda n, x: n.b(functional.channel_shuffle(n.a(x), 2))  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def pixels_shuffled(n_classes):
    return nn.Sequential(conv(3, 8), nn.PixelUnshuffle(2), nn.ReLU(), conv(32, 8), nn.ReLU(), head(8, n_classes))


class Additive(nn.Linear):
    """Its additions are layers: each has its own rule."""

    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.down, self.up = nn.Linear(n_in, 2), nn.Linear(2, n_out)

    def forward(self, x):
        return super().forward(x) + self.up(self.down(x))


def adapter_of_layers(n_classes):
    return nn.Sequential(body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Additive(8, 12), nn.Linear(12, n_classes))


def checkpointed(n_classes):
    run = lambda n, x: checkpoint(n.body, x, use_reentrant=False)  # noqa: E731
    return pooled(n_classes, run, body=body())


# What is refused


def five_outputs():
    return nn.Sequential(body(), head(8, 5))


def outputs_of_imagenet():
    return nn.Sequential(body(), head(8, 1000))


def one_output():
    return Net(lambda n, x: n.head(n.body(x)).squeeze(1), body=body(), head=head(8, 1))


def map_of_scores(n_classes):
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, n_classes, 3))


def class_numbers(n_classes):
    return Net(lambda n, x: n.net(x).argmax(1), net=nn.Sequential(body(), head(8, n_classes)))


def two_scores(n_classes):
    layers = {"body": body(), "head": head(8, n_classes), "aux": head(8, n_classes)}
    return Net(lambda n, x: (n.head(n.body(x)), n.aux(n.body(x))), **layers)


def scores_and_auxiliary_scores_in_training(n_classes):
    def run(net, x):
        scores = net.head(net.body(x))
        return (scores, net.aux(net.body(x))) if net.training else scores

    return Net(run, body=body(), head=head(8, n_classes), aux=head(8, n_classes))


@dataclass
class Outputs:
    scores: torch.Tensor


def dataclass_of_scores(n_classes):
    return Net(lambda n, x: Outputs(n.net(x)), net=nn.Sequential(body(), head(8, n_classes)))


def nothing(n_classes):
    return Net(lambda n, x: None, net=nn.Sequential(body(), head(8, n_classes)))


def dropout_always(n_classes):
    return pooled(n_classes, lambda n, x: functional.dropout(n.body(x), 0.5), body=body())


def counts_its_calls(n_classes):
    def run(net, x):
        net.calls = getattr(net, "calls", 0) + 1
        return net.body(x) * net.calls

    return pooled(n_classes, run, body=body())


def norm_without_statistics(n_classes):
    return nn.Sequential(body(), head(8, 12), nn.BatchNorm1d(12, track_running_stats=False), nn.Linear(12, n_classes))


def changes_its_input(n_classes):
    return pooled(n_classes, lambda n, x: n.body(x.sub_(0.5)), body=body())


def logarithms_of_negatives(n_classes):
    return Net(lambda n, x: n.net(x).log(), net=nn.Sequential(body(), head(8, n_classes)))


def never_learns(n_classes):
    return Net(lambda n, x: n.net(x).detach(), net=nn.Sequential(body(), head(8, n_classes)))


def all_frozen(n_classes):
    return nn.Sequential(body(), head(8, n_classes)).requires_grad_(False)


def fails_in_training(n_classes):
    def run(net, x):
        if net.training:
            raise ValueError("no targets")
        return net.body(x)

    return pooled(n_classes, run, body=body())


class Targeted(nn.Sequential):
    def forward(self, x, targets):
        return super().forward(x)


def wants_targets(n_classes):
    return Targeted(body(), head(8, n_classes))


def wrong_size(n_classes):
    return nn.Sequential(body(), nn.Flatten(), nn.Linear(100, n_classes))


def double_precision(n_classes):
    return nn.Sequential(body(), head(8, n_classes)).double()


def lazy_and_never_run(n_classes):
    return pooled(n_classes, lambda n, x: n.body(x), body=body(), spare=nn.LazyLinear(4))


def lock_inside(n_classes):
    net = nn.Sequential(body(), head(8, n_classes))
    net.lock = threading.Lock()
    return net


class LowRank(nn.Linear):
    def __init__(self, n_in, n_out):
        super().__init__(n_in, n_out)
        self.down, self.up = nn.Parameter(torch.randn(2, n_in)), nn.Parameter(torch.randn(n_out, 2))

    def forward(self, x):
        return super().forward(x) + functional.linear(functional.linear(x, self.down), self.up)


def low_rank(n_classes):
    return nn.Sequential(body(nn.AdaptiveAvgPool2d(1)), nn.Flatten(), LowRank(8, 12), nn.Linear(12, n_classes))


def old_weight_norm(n_classes):
    return nn.Sequential(weight_norm(conv(3, 8)), nn.ReLU(), conv(8, 8), head(8, n_classes))


def new_weight_norm(n_classes):
    return nn.Sequential(parametrizations.weight_norm(conv(3, 8)), nn.ReLU(), conv(8, 8), head(8, n_classes))


class Twice(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) + super().forward(x.flip(3))


def convolves_twice(n_classes):
    return nn.Sequential(Twice(3, 8, 3), nn.ReLU(), conv(8, 8), head(8, n_classes))


class Lazybones(nn.Conv2d):
    def forward(self, x):
        return functional.interpolate(super().forward(x[:, :, ::2, ::2]), scale_factor=2.0)


def skips_its_work(n_classes):
    return nn.Sequential(Lazybones(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8), head(8, n_classes))


class Blur(nn.AvgPool2d):
    def forward(self, x):
        return functional.conv2d(super().forward(x), torch.ones(x.shape[1], 1, 3, 3) / 9, groups=x.shape[1])


def pools_by_convolution(n_classes):
    return nn.Sequential(conv(3, 8), Blur(2), nn.ReLU(), conv(8, 8), head(8, n_classes))


def tied_weights(n_classes):
    net = nn.Sequential(conv(3, 8), conv(8, 8), nn.ReLU(), conv(8, 8), head(8, n_classes))
    net[3].weight = net[1].weight
    return net


def patches_as_batch(n_classes):
    run = lambda n, x: n.b(n.conv(x.reshape(-1, 3, 8, 16)).reshape(len(x), 8, 16, 16))  # noqa: E731
    return pooled(n_classes, run, conv=conv(3, 8), b=conv(8, 8))


def branch_on_the_image(n_classes):
    run = lambda n, x: n.b(n.a(x)) if x.abs().sum() > 0 else n.a(x)  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def attention(n_classes):
    def run(net, x):
        t = net.a(x).flatten(2)
        return net.b(((t @ t.transpose(1, 2)).softmax(2) @ t).view(x.shape[0], 8, 16, 16))

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


class FreeConvolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 3, 3, 3))

    def forward(self, x):
        return functional.conv2d(x, self.weight)


def free_convolution(n_classes):
    return nn.Sequential(FreeConvolution(), nn.ReLU(), conv(8, 8), head(8, n_classes))


def fixed_blur(n_classes):
    net = pooled(n_classes, lambda n, x: n.b(functional.conv2d(n.a(x), n.kernel, groups=8)), a=conv(3, 8), b=conv(8, 8))
    net.register_buffer("kernel", torch.ones(8, 1, 3, 3) / 9)
    return net


def transposed(n_classes):
    return nn.Sequential(conv(3, 8), nn.ConvTranspose2d(8, 8, 2, 2), conv(8, 8), head(8, n_classes))


def learned_slopes(n_classes):
    return nn.Sequential(conv(3, 8), nn.PReLU(), conv(8, 8), head(8, n_classes))


def no_layers(n_classes):
    return Net(lambda n, x: x.flatten(1)[:, :n_classes])


def one_layer(n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 256, n_classes))


def returns_a_function(n_classes):
    return lambda x: x


def raises(n_classes):
    raise RuntimeError("two\nlines")


def exits(n_classes):
    sys.exit(3)


def scripted(n_classes):
    return torch.jit.trace(nn.Sequential(body(), head(8, n_classes)).eval(), torch.zeros(1, 3, 16, 16))
