"""Model -> layer records: one forward pass at batch 1, every operation noted. What has no rule is an error."""

from __future__ import annotations

from collections import defaultdict
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hdapbench.cost.channels import Channels, dimensions, order_of
from hdapbench.cost.model import CostModel
from hdapbench.cost.records import ChannelCount, LayerRecord, OperationKind
from hdapbench.errors import UnknownLayerError
from hdapbench.groups import GroupSet

_COUNTED = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)
_POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
_PARAMETERS = {"weight", "bias"}
"""What known layers hold; computed weights (weight norm, low-rank additions) are parameters of other names."""
_REFUSED = tuple(
    f"{name}_"
    for name in (
        *("convolution", "slow_conv2d", "mm", "addmm", "bmm", "addbmm", "baddbmm", "matmul", "dot", "mv", "addmv"),
        *("addr", "einsum", "cdist", "fft", "embedding", "lstm", "gru"),
        *("scaled_dot_product", "flash_attention", "efficient_attention"),
    )
)
"""Beginnings of the names of operations that multiply; the name compared ends in an underscore too."""
_ARITHMETIC = {"add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_"}
_READS = {"_local_scalar_dense", "nonzero", "equal"}
"""Operations by which Python sees what is in a tensor: what it does then may depend on it."""
PROBE_SEED = 20_251
_RESIZES = {"upsample_nearest2d", "upsample_bilinear2d"}


def record_layers(model: nn.Module, group_set: GroupSet, input_shape: tuple[int, int, int]) -> tuple[LayerRecord, ...]:
    """Records of every operation that costs something, in order of execution.

    Parameters
    ----------
    group_set
        Channel groups of the model: what its channel counts depend on.
    input_shape
        Channels, height and width of one input.

    Raises
    ------
    UnknownLayerError
        When a module holds parameters of a kind without a rule, or an operation multiplies outside of known layers.
    """
    return _recorded(model, group_set, torch.zeros(1, *input_shape))


def check_operations(model: nn.Module, input_shape: tuple[int, int, int]) -> None:
    """Refuse a model whose operations or parameters no rule covers, or whose operations depend on the image.

    Raises
    ------
    UnknownLayerError
        With the layer or the operation.
    """
    generator = torch.Generator().manual_seed(PROBE_SEED)
    noise = torch.randn(2, 1, *input_shape, generator=generator)
    probes = [torch.zeros_like(noise[0]), noise[0], 10 * noise[1], -torch.ones_like(noise[0])]
    first, *others = (_recorded(model, GroupSet(()), probe) for probe in probes)
    for found in others:
        if found != first:
            names = [a.name for a, b in zip(first, found, strict=False) if a != b] or ["the number of operations"]
            raise UnknownLayerError(
                f"what {type(model).__name__} computes depends on the image (control flow on data), first at "
                f"'{names[0]}': it has no fixed cost"
            )
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    n_counted = CostModel.from_records(first, {}).dense.params
    if n_counted != n_parameters:
        raise UnknownLayerError(
            f"the layers have {n_counted:,} parameters by the cost rules, but really {n_parameters:,}"
        )


def _recorded(model: nn.Module, group_set: GroupSet, probe: Tensor) -> tuple[LayerRecord, ...]:
    check_parameters(model)
    copy = deepcopy(model).float().cpu().eval()
    recorder = _Recorder(copy, group_set)
    with torch.no_grad(), recorder:
        recorder.attach(probe)
        try:
            copy(probe)
        finally:
            recorder.detach()
    return tuple(recorder.records + recorder.never_executed())


def check_parameters(model: nn.Module) -> None:
    """Refuse a model that holds parameters which no rule covers; needs no forward pass, and names every layer.

    Raises
    ------
    UnknownLayerError
        With the layers.
    """
    wrong = []
    for name, module in model.named_modules():
        held = dict(module.named_parameters(recurse=False))
        extra = [key for key in held if key not in _PARAMETERS] if isinstance(module, _COUNTED + _NORMS) else []
        if extra or (held and not isinstance(module, _COUNTED + _NORMS)):
            what = ": ".join([type(module).__name__, *filter(None, [", ".join(extra)])])
            wrong.append(f"'{name or type(model).__name__}' ({what})")
    if wrong:
        raise UnknownLayerError(
            f"no cost rule for the parameters of {', '.join(wrong[:5])}"
            f"{' and others' if len(wrong) > 5 else ''}; known layers: Conv2d, Linear, BatchNorm, LayerNorm, GroupNorm"
        )
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owner = owners.setdefault(id(parameter), name)
            if owner != name:
                raise UnknownLayerError(f"no cost rule for weights that two layers share: '{owner}' and '{name}'")


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes layers through hooks, and the operations between them through the dispatcher."""

    def __init__(self, model: nn.Module, group_set: GroupSet) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.records: list[LayerRecord] = []
        self._model = model
        self._names = {module: name for name, module in model.named_modules()}
        self._in_counts, self._out_counts = _channel_counts(model, group_set)
        self._inside: list[int] = []  # FLOPs, as torch counts them, of the layers that are running, outermost first
        self._called: set[str] = set()
        self._origin: dict[int, tuple[int, Channels]] = {}  # tensor -> (record, channels)
        self._alive: list[Tensor] = []  # keeps ids from being reused
        self._handles: list[Any] = []

    def attach(self, probe: Tensor) -> None:
        """Hook every layer that is recorded as a whole."""
        self._remember(probe, -1, Channels(ChannelCount(probe.shape[1])))
        for module in self._names:
            if isinstance(module, _COUNTED + _NORMS + _POOLS):
                self._handles.append(module.register_forward_pre_hook(self._enter))
                self._handles.append(module.register_forward_hook(self._leave, with_kwargs=True))

    def detach(self) -> None:
        """Remove the hooks and let go of the tensors."""
        for handle in self._handles:
            handle.remove()
        self._alive.clear()

    def never_executed(self) -> list[LayerRecord]:
        """Records of layers with parameters that the forward pass did not reach."""
        missed = [
            (name, module)
            for module, name in self._names.items()
            if isinstance(module, _COUNTED + _NORMS) and name not in self._called
        ]
        return [self._layer_record(name, module, None, None, ()) for name, module in missed]

    def _enter(self, _module: nn.Module, _inputs: Any) -> None:
        self._inside.append(0)

    def _leave(self, module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Any) -> None:
        counted = self._inside.pop()
        x, y = _tensors((inputs, named))[0], _tensors(output)[0]  # max pooling may return indices as well
        source, channels = self._lookup(x)
        name = self._names[module]
        if isinstance(module, _POOLS):
            _check_flops(name, module, counted, 0)
            self._add_window(name, x, y, window=_window(module))
            return
        record = self._layer_record(name, module, x, y, (source,))
        n_weights = module.weight[0].numel() if isinstance(module, nn.Conv2d | nn.Linear) else 0
        n_outputs = module.out_features if isinstance(module, nn.Linear) else getattr(module, "out_channels", 0)
        _check_flops(name, module, counted, n_outputs * n_weights * record.area_out)
        self._called.add(name)
        self.records.append(record)
        axis = {nn.Linear: y.dim() - 1, nn.LayerNorm: channels.axis}
        own = next((axis[kind] for kind in axis if isinstance(module, kind)), 1)
        self._remember(y, len(self.records) - 1, Channels(record.channels_out, own))

    def _layer_record(
        self, name: str, module: nn.Module, x: Tensor | None, y: Tensor | None, inputs: tuple[int, ...]
    ) -> LayerRecord:
        common: dict[str, Any] = {
            "name": name,
            "inputs": inputs,
            "channels_in": self._in_counts[name],
            "channels_out": self._out_counts[name],
            "first": name not in self._called,
            "executed": y is not None,
        }
        if x is not None and y is not None:
            common |= dict(zip(("height_in", "width_in"), _extent(x, module), strict=True))
            common |= dict(zip(("height_out", "width_out"), _extent(y, module), strict=True))
        if isinstance(module, nn.Conv2d):
            depthwise = 1 < module.groups == module.in_channels == module.out_channels
            return LayerRecord(
                kind="depthwise" if depthwise else "conv",
                kernel_area=module.kernel_size[0] * module.kernel_size[1],
                stride=int(module.stride[0]),
                n_conv_groups=1 if depthwise else module.groups,
                bias=module.bias is not None,
                **common,
            )
        if isinstance(module, nn.Linear):
            return LayerRecord(kind="linear", bias=module.bias is not None, **common)
        n_values = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        per_channel = n_values // max(_norm_size(module), 1)
        return LayerRecord(kind="norm", parameters_per_channel=per_channel, **common)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        operation = func.__name__.split(".")[0]
        counter = flop_registry.get(func.overloadpacket)
        flops = counter(*args, **(kwargs or {}), out_val=output) // 2 if counter is not None else 0
        if self._inside:
            self._inside[-1] += flops
        elif flops:
            raise _no_rule(operation)
        else:
            self._note(operation, args, _tensors((args, kwargs)), output)
        return output

    def _note(self, operation: str, args: tuple[Any, ...], inputs: list[Tensor], output: Any) -> None:
        """Note an operation between layers, and where its outputs come from."""
        if f"{operation.strip('_')}_".startswith(_REFUSED):
            raise _no_rule(operation)
        self._refuse_reading(operation, inputs)
        outputs = _tensors(output)
        known = [tensor for tensor in inputs if id(tensor) in self._origin]
        if not known or not outputs:
            return
        source, channels = self._lookup(known[0])
        x, y = known[0], outputs[0]
        if operation == "cat" and y.dim() == 4:
            parts = [self._lookup(tensor) for tensor in known]
            if dimensions(x, args[1:2] or (0,)) == [channels.axis]:
                counts = [part.count for _, part in parts]
                channels = Channels(sum(counts[1:], counts[0]), channels.axis)
            self._add("concat", operation, y, tuple(number for number, _ in parts), channels)
        elif operation in _ARITHMETIC and len(known) > 1 and y.dim() == 4:
            parts = [self._lookup(tensor) for tensor in known]
            is_sum = operation.startswith("add") and known[0].shape == known[1].shape
            widest = max(range(len(known)), key=lambda number: known[number].numel())
            kind: OperationKind = "add" if is_sum else "elementwise"
            self._add(kind, operation, y, tuple(number for number, _ in parts), parts[widest][1])
        elif operation == "mean" and x.dim() == 4 and channels.axis in dimensions(x, args[1:2]):
            self._remember(y, source, Channels(ChannelCount(1)))
        elif (operation == "mean" and x.dim() == 4) or "pool2d" in operation:
            self._add_window(operation, x, y)
        elif operation in _RESIZES:
            self._add("elementwise", operation, y, (source,), channels)
        else:
            for tensor in outputs:
                self._remember(tensor, source, channels.carried(x, tensor, order_of(operation, x, args)))

    def _refuse_reading(self, operation: str, inputs: list[Tensor]) -> None:
        """Refuse that Python looks at what comes from the image: what it then does has no fixed cost."""
        source = next((self._lookup(tensor)[0] for tensor in inputs if id(tensor) in self._origin), None)
        if operation not in _READS or source is None:
            return
        after = f"after '{self.records[source].name}'" if source >= 0 else "of the image itself"
        raise UnknownLayerError(
            f"what {type(self._model).__name__} computes depends on the image: Python reads a value {after} (if, "
            "while, item, a mask); it has no fixed cost"
        )

    def _add_window(self, name: str, x: Tensor, y: Tensor, *, window: int | None = None) -> None:
        """Note a pooling of 4-dimensional maps; windows that are not known are taken not to overlap."""
        source, channels = self._lookup(x)
        height, width = channels.extent(x)
        height_out, width_out = channels.extent(y) if y.dim() == 4 else (1, 1)
        whole = height_out == width_out == 1
        stride = max(height // height_out, 1)
        self.records.append(
            LayerRecord(
                name=name,
                kind="global_pool" if whole else "pool",
                inputs=(source,),
                channels_in=channels.count,
                channels_out=channels.count,
                height_in=height,
                width_in=width,
                height_out=height_out,
                width_out=width_out,
                kernel_area=height * width if whole else window or stride * stride,
                stride=stride,
            )
        )
        self._remember(y, len(self.records) - 1, channels if y.dim() == 4 else Channels(channels.count))

    def _add(self, kind: OperationKind, name: str, y: Tensor, inputs: tuple[int, ...], channels: Channels) -> None:
        size = channels.extent(y)
        self.records.append(LayerRecord(name, kind, inputs, channels.count, channels.count, *size, *size))
        self._remember(y, len(self.records) - 1, channels)

    def _remember(self, tensor: Tensor, record: int, channels: Channels) -> None:
        self._origin[id(tensor)] = (record, channels)
        self._alive.append(tensor)

    def _lookup(self, tensor: Tensor) -> tuple[int, Channels]:
        constant = ChannelCount(tensor.shape[1] if tensor.dim() > 1 else 1)
        return self._origin.get(id(tensor), (-1, Channels(constant)))


def _no_rule(operation: str) -> UnknownLayerError:
    return UnknownLayerError(f"no cost rule for the operation '{operation}' outside of Conv2d and Linear layers")


def _check_flops(name: str, module: nn.Module, counted: int, known: int) -> None:
    """Refuse a layer that computes something else than its kind does, as subclasses may."""
    if counted != known:
        raise UnknownLayerError(
            f"no cost rule for what '{name}' ({type(module).__name__}) computes: {counted:,} multiply-accumulates, "
            f"where a plain layer of its size computes {known:,}"
        )


def _channel_counts(model: nn.Module, group_set: GroupSet) -> tuple[dict[str, ChannelCount], dict[str, ChannelCount]]:
    """Consumed and produced channels of every layer with parameters, as functions of the groups' widths."""
    in_channels: dict[str, dict[str, int]] = defaultdict(dict)
    out_channels: dict[str, dict[str, int]] = defaultdict(dict)
    for group in group_set:
        for member in group.members:
            multiplicity = len(member.indices) // group.n_channels
            if member.side in {"in", "both"}:
                in_channels[member.layer][group.name] = multiplicity
            if member.side in {"out", "both"}:
                out_channels[member.layer][group.name] = multiplicity
    sizes = group_set.sizes

    def count(dense: int, multiplicity: dict[str, int]) -> ChannelCount:
        return ChannelCount(dense - sum(n * sizes[name] for name, n in multiplicity.items()), dict(multiplicity))

    counts_in, counts_out = {}, {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            dense_in, dense_out = module.in_channels, module.out_channels
        elif isinstance(module, nn.Linear):
            dense_in, dense_out = module.in_features, module.out_features
        elif isinstance(module, _NORMS):
            dense_in = dense_out = _norm_size(module)
        else:
            continue
        counts_in[name], counts_out[name] = count(dense_in, in_channels[name]), count(dense_out, out_channels[name])
    return counts_in, counts_out


def _window(module: nn.Module) -> int | None:
    """Height times width of a pooling window, or None for adaptive pooling."""
    if not isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        return None
    size = module.kernel_size
    return size * size if isinstance(size, int) else size[0] * size[1]


def _norm_size(module: nn.Module) -> int:
    if isinstance(module, nn.LayerNorm):
        return int(torch.Size(module.normalized_shape).numel())
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)  # noqa: S101 - the only kind left
    return module.num_features


def _extent(tensor: Tensor, module: nn.Module) -> tuple[int, int]:
    """Height and width of a map; for a linear layer the number of positions it is applied to."""
    if isinstance(module, nn.Linear | nn.LayerNorm):
        return int(tensor.numel() // tensor.shape[-1]), 1
    return (tensor.shape[2], tensor.shape[3]) if tensor.dim() == 4 else (1, 1)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in _tensors(item)]
    if isinstance(value, list | tuple):
        return [tensor for item in value for tensor in _tensors(item)]
    return []
