"""Small networks as users write them: some that run from spec to board, others that are refused before training.

Each function is a model's callable. `REFUSED` says what of a refusal's line must be there; all others run.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm
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
    "double_precision": "parameters of torch.float64 ('0.0.weight'); networks are float32 here",
    "half_precision_behind_casts": "parameters of torch.float16 ('0.0.weight'); networks are float32 here",
    "more_outputs_than_classes": "the model gives 12 outputs, the data have 10 classes",
    "no_outputs": "the model gives 0 outputs, the data have 10 classes",
    "no_images_out": "a tensor of shape (0, 10) for 2 images",
    "images_out_of_patches": "a tensor of shape (4, 10) for 2 images",
    "complex_scores": "a tensor of torch.complex64",
    "sometimes_nan": "outputs are not finite",
    "noise_always": "two runs on one input differ",
    "writes_into_what_gradients_need": "modified by an inplace operation",
    "generator_inside": "cannot be copied",
    "compiled": "compiled network",
    "scripted_inside": "'0' (RecursiveScriptModule): it is compiled",
    "old_spectral_norm": "'0' (Conv2d: weight_orig)",
    "old_weight_norm": "'0' (Conv2d: weight_g, weight_v)",
    "new_spectral_norm": "'0.parametrizations.weight' (ParametrizationList)",
    "parametrized_by_a_function": "'0.parametrizations.weight' (ParametrizationList)",
    "new_weight_norm": "'0.parametrizations.weight' (ParametrizationList)",
    "orthogonal": "'3.parametrizations.weight' (ParametrizationList)",
    "over_time": "required rank 4 tensor to use channels_last",
    "recurrent": "no channel group of Net can be pruned",
    "fourier": "'_fft_r2c'",
    "early_exit": "depends on the image: Python reads a value after 'first.2'",
    "loop_on_the_image": "depends on the image: Python reads a value after 'a'",
    "branch_by_numpy": "depends on the image",
    "lazy_and_never_run": "lazy layers have no shapes yet (spare.weight",
    "lock_inside": "cannot be copied",
    "branch_on_the_image": "depends on the image",
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


def nested_mapping(n_classes):
    layers = {"body": body(), "head": head(8, n_classes)}
    return Net(lambda n, x: {"heads": {"logits": n.head(n.body(x))}, "maps": [n.body(x)]}, **layers)


class ModelOutput(OrderedDict):
    """Outputs by name and by attribute, as of transformers."""

    def __init__(self, logits, hidden):
        super().__init__(logits=logits, hidden=hidden)
        self.logits, self.hidden = logits, hidden


def outputs_of_a_class_that_is_a_mapping(n_classes):
    return Net(lambda n, x: ModelOutput(n.head(n.body(x)), n.body(x)), body=body(), head=head(8, n_classes))


def scores_and_prunable_embedding(n_classes):
    def run(net, x):
        embedding = net.embed(net.body(x)).mean((2, 3))
        return net.fc(embedding.relu()), embedding

    return Net(run, body=body(), embed=conv(8, 12), fc=nn.Linear(12, n_classes))


def children_of_awkward_names(n_classes):
    names = {"class": conv(3, 8), "0": conv(8, 8), "weight": conv(8, 8), "items": head(8, n_classes)}
    return Net(lambda n, x: n.items(n.weight(n._modules["0"](n._modules["class"](x).relu()).relu())), **names)


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(3, 8)

    def forward(self, *, image, scale=1.0):
        return self.conv(image) * scale


def children_called_by_keyword(n_classes):
    return pooled(n_classes, lambda n, x: n.b(n.a(image=x, scale=2.0).relu()), a=Scaled(), b=conv(8, 8))


def data_parallel_inside(n_classes):
    return nn.Sequential(nn.DataParallel(body()), head(8, n_classes))


def channels_last(n_classes):
    return nn.Sequential(body(), head(8, n_classes)).to(memory_format=torch.channels_last)


def hooked(n_classes):
    net = nn.Sequential(body(), head(8, n_classes))
    net[0][0].register_forward_hook(lambda _module, _inputs, output: output * 2)
    return net


class Remembers(nn.Module):
    """A buffer that has another shape after every batch."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(0))

    def forward(self, x):
        if self.training:
            self.seen = torch.cat([self.seen, x.detach().mean((1, 2, 3))])
        return x


def growing_buffer(n_classes):
    return nn.Sequential(Remembers(), body(), head(8, n_classes))


class Standardised(nn.Conv2d):
    """Weights computed from its own: as many multiplications as its base."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


def standardised_weights(n_classes):
    return nn.Sequential(Standardised(3, 8, 3, padding=1), nn.ReLU(), conv(8, 8), nn.ReLU(), head(8, n_classes))


def shared_block(n_classes):
    block = nn.Sequential(conv(8, 8), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(conv(3, 8), block, block, head(8, n_classes))


def norms_of_the_batch(n_classes):
    norms = nn.BatchNorm2d(8, track_running_stats=False), nn.BatchNorm2d(8, momentum=None)
    return nn.Sequential(conv(3, 8), norms[0], nn.ReLU(), conv(8, 8), norms[1], nn.ReLU(), head(8, n_classes))


def view_by_features(n_classes):
    return Net(lambda n, x: n.f(n.body(x).view(-1, 8 * 64)), body=body(), f=nn.Linear(8 * 64, n_classes))


def rearranged(n_classes):
    def run(net, x):
        x = net.a(x).relu()
        x = x.reshape(len(x), 8, 8, 2, 8, 2).permute(0, 1, 3, 5, 2, 4).reshape(len(x), 32, 8, 8)
        return net.b(x)

    return pooled(n_classes, run, a=conv(3, 8), b=conv(32, 8))


def padded_in_all_ways(n_classes):
    modes = [nn.Sequential(conv(8, 8, padding_mode=mode), nn.ReLU()) for mode in ("circular", "reflect", "replicate")]
    return nn.Sequential(conv(3, 8), *modes, head(8, n_classes))


def resized_bilinearly(n_classes):
    def run(net, x):
        small = net.b(functional.avg_pool2d(net.a(x), 2))
        return functional.interpolate(small, scale_factor=2, mode="bilinear", align_corners=True) + net.a(x)

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def depthwise_with_a_multiplier(n_classes):
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 16, groups=8), nn.ReLU(), conv(16, 8, 1), head(8, n_classes))


def gates_of_halves(n_classes):
    return nn.Sequential(conv(3, 16), nn.GLU(1), conv(8, 8), nn.Softmax2d(), conv(8, 8), head(8, n_classes))


def split_and_joined(n_classes):
    def run(net, x):
        left, right = net.a(x).relu().chunk(2, 1)
        return net.c(torch.cat([right, net.b(left)], 1))

    return pooled(n_classes, run, a=conv(3, 8), b=conv(4, 4), c=conv(8, 8))


def chosen_by_tensors(n_classes):
    return pooled(n_classes, lambda n, x: n.b(torch.where(n.a(x) > 0, n.a(x), -n.a(x))), a=conv(3, 8), b=conv(8, 8))


def features_of_length_one(n_classes):
    run = lambda n, x: n.f(functional.normalize(n.body(x).amax((2, 3))))  # noqa: E731
    return Net(run, body=body(), f=nn.Linear(8, n_classes))


def noise_in_training_only(n_classes):
    run = lambda n, x: n.body(x + torch.randn_like(x) if n.training else x)  # noqa: E731
    return pooled(n_classes, run, body=body())


def mean_of_maps(n_classes):
    return Net(lambda n, x: n.maps(n.body(x)).mean((2, 3)), body=body(), maps=conv(8, n_classes, 1))


# What is refused


def more_outputs_than_classes():
    return nn.Sequential(body(), head(8, 12))


def no_outputs(n_classes):
    return Net(lambda n, x: n.net(x)[:, :0], net=nn.Sequential(body(), head(8, n_classes)))


def no_images_out(n_classes):
    return Net(lambda n, x: n.net(x)[:0], net=nn.Sequential(body(), head(8, n_classes)))


def images_out_of_patches(n_classes):
    return Net(lambda n, x: n.f(n.body(x).view(-1, 4 * 64)), body=body(), f=nn.Linear(4 * 64, n_classes))


def complex_scores(n_classes):
    return Net(lambda n, x: torch.complex(n.net(x), n.net(x)), net=nn.Sequential(body(), head(8, n_classes)))


def sometimes_nan(n_classes):
    net = nn.Sequential(body(), head(8, n_classes))
    return Net(lambda n, x: torch.where(n.net(x) > 0, n.net(x), torch.nan), net=net)


def noise_always(n_classes):
    return Net(lambda n, x: functional.gumbel_softmax(n.net(x)), net=nn.Sequential(body(), head(8, n_classes)))


def writes_into_what_gradients_need(n_classes):
    def run(net, x):
        x = net.a(x).relu()
        x[:, :4].mul_(0.5)
        return net.b(x)

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def generator_inside(n_classes):
    net = nn.Sequential(body(), head(8, n_classes))
    net.numbers = (number for number in range(3))
    return net


def half_precision_behind_casts(n_classes):
    net = Net(lambda n, x: n._modules["0"](x.half()).float(), **{"0": nn.Sequential(conv(3, 8), head(8, n_classes))})
    return net.half()


def compiled(n_classes):
    return torch.compile(nn.Sequential(body(), head(8, n_classes)), backend="eager")


def scripted_inside(n_classes):
    return nn.Sequential(torch.jit.trace(body().eval(), torch.zeros(1, 3, 16, 16)), head(8, n_classes))


def old_spectral_norm(n_classes):
    return nn.Sequential(spectral_norm(conv(3, 8)), nn.ReLU(), conv(8, 8), head(8, n_classes))


def new_spectral_norm(n_classes):
    return nn.Sequential(parametrizations.spectral_norm(conv(3, 8)), nn.ReLU(), conv(8, 8), head(8, n_classes))


def orthogonal(n_classes):
    layers = [body(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), parametrizations.orthogonal(nn.Linear(8, 8))]
    return nn.Sequential(*layers, nn.Linear(8, n_classes))


class Halved(nn.Module):
    def forward(self, weight):
        return weight * 0.5


def parametrized_by_a_function(n_classes):
    first = conv(3, 8)
    parametrize.register_parametrization(first, "weight", Halved())
    return nn.Sequential(first, nn.ReLU(), conv(8, 8), head(8, n_classes))


def scales_of_its_own(n_classes):
    net = pooled(n_classes, lambda n, x: n.a(x) + n.scale * n.b(n.a(x)), a=conv(3, 8), b=conv(8, 8))
    net.scale = nn.Parameter(torch.ones(8, 1, 1))
    return net


def over_rows(n_classes):
    run = lambda n, x: n.f(n.rows(x.flatten(2)).relu().mean(2))  # noqa: E731
    return Net(run, rows=nn.Conv1d(3, 8, 3), f=nn.Linear(8, n_classes))


def over_time(n_classes):
    run = lambda n, x: n.f(n.clip(x.unsqueeze(2)).relu().mean((2, 3, 4)))  # noqa: E731
    return Net(run, clip=nn.Conv3d(3, 8, (1, 3, 3)), f=nn.Linear(8, n_classes))


def recurrent(n_classes):
    run = lambda n, x: n.f(n.rows(x.flatten(2).transpose(1, 2))[0][:, -1])  # noqa: E731
    return Net(run, rows=nn.LSTM(3, 8, batch_first=True), f=nn.Linear(8, n_classes))


def attention_layer(n_classes):
    def run(net, x):
        x = net.patch(x).flatten(2).transpose(1, 2)
        return net.f(net.wide(net.a(x, x, x)[0]).relu().mean(1))

    layers = {"patch": nn.Conv2d(3, 8, 4, 4), "a": nn.MultiheadAttention(8, 2, batch_first=True)}
    return Net(run, **layers, wide=nn.Linear(8, 32), f=nn.Linear(32, n_classes))


def computed_weights(n_classes):
    def run(net, x):
        x = net.a(x).relu()
        shares = net.gate(x.mean((2, 3))).mean(0).softmax(0)
        return functional.conv2d(x, net.b.weight * shares[0], net.b.bias, padding=1)

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8), gate=nn.Linear(8, 2))


def layer_called_by_function(n_classes):
    run = lambda n, x: functional.conv2d(n.a(x).relu(), n.b.weight, n.b.bias, padding=1)  # noqa: E731
    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def cosine_scores(n_classes):
    run = lambda n, x: functional.linear(n.body(x).mean((2, 3)), functional.normalize(n.f.weight))  # noqa: E731
    return Net(run, body=body(), f=nn.Linear(8, n_classes, bias=False))


def fourier(n_classes):
    return pooled(n_classes, lambda n, x: n.b(torch.fft.rfft2(n.a(x)).abs()), a=conv(3, 8), b=conv(8, 8))


def early_exit(n_classes):
    def run(net, x):
        scores = net.first(net.a(x).relu())
        return scores if scores.softmax(1).max() > 0.9 else net.second(net.b(net.a(x).relu()))

    return Net(run, a=conv(3, 8), b=conv(8, 8), first=head(8, n_classes), second=head(8, n_classes))


def loop_on_the_image(n_classes):
    def run(net, x):
        x = net.a(x)
        while x.abs().mean() > 0.01:
            x = net.b(x) * 0.1
        return x

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


def branch_by_numpy(n_classes):
    def run(net, x):
        x = net.a(x).relu()
        return net.b(x) if x.detach().numpy().mean() > 1 else x

    return pooled(n_classes, run, a=conv(3, 8), b=conv(8, 8))


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
