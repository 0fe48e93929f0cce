"""Model -> QuantGraph: every node of a torch.fx trace is recognised, or refused by name."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from hdapbench.errors import UnknownLayerError
from hdapbench.quant.graph.arrange import Arrangement, Shapes
from hdapbench.quant.graph.fold import symbolic_graph
from hdapbench.quant.graph.graph import Op, Operation, QuantGraph
from hdapbench.quant.graph.insert_quantizers import insert_quantizers
from hdapbench.quant.graph.recognise import Meaning, recognise


def trace_graph(model: nn.Module, input_shape: tuple[int, int, int]) -> QuantGraph:
    """Operations of a model, with activation quantisers inserted.

    Parameters
    ----------
    model
        Batch norm must be folded (`fold_batch_norm`); not changed.
    input_shape
        Channels, height and width of one input.

    Raises
    ------
    ModelError
        When the model's control flow depends on data.
    UnknownLayerError
        Naming every node that has no integer counterpart.
    """
    copy = deepcopy(model).float().cpu().eval()
    graph = symbolic_graph(copy)
    with torch.no_grad():
        Shapes(fx.GraphModule(copy, graph)).propagate(torch.zeros(2, *input_shape))
    return insert_quantizers(_Reader(copy, graph).operations())


@dataclass
class _Reader:
    """Walks the nodes of a torch.fx trace."""

    model: nn.Module
    graph: fx.Graph
    found: list[Operation] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    alias: dict[fx.Node, str] = field(default_factory=dict)  # node -> operation that holds its value
    loose: dict[fx.Node, Arrangement] = field(default_factory=dict)  # nodes whose values no operation holds

    def operations(self) -> list[Operation]:
        """Operations in order of execution, without quantisers.

        Raises
        ------
        UnknownLayerError
            Naming every node that has no rule.
        """
        modules = dict(self.model.named_modules())
        for node in self.graph.nodes:
            if node.op == "output":
                self._finish(node)
            elif not _is_number(node):
                is_loose = any(source in self.loose for source in node.all_input_nodes)
                meaning = (
                    "reads values that were moved about, not whole channels" if is_loose else recognise(node, modules)
                )
                if not (isinstance(meaning, str) and self._arrange(node, modules)):
                    self._read(node, meaning)
        if self.refused:
            more = f" and {len(self.refused) - 5} more" if len(self.refused) > 5 else ""
            raise UnknownLayerError(
                f"{type(self.model).__name__} cannot be quantised: {'; '.join(self.refused[:5])}{more}"
            )
        return self.found

    def _read(self, node: fx.Node, meaning: Meaning | str) -> None:
        if isinstance(meaning, str):
            self.refused.append(f"node '{node.name}' {meaning}")
            self.alias[node] = node.name  # so that what follows is looked at as well
            return
        if meaning.op is None:
            self.alias[node] = self.alias[meaning.inputs[0]]
            return
        name = str(node.target) if meaning.op == "layer" else node.name
        if meaning.op == "layer" and any(operation.name == name for operation in self.found):
            self.refused.append(f"node '{node.name}' calls the layer '{name}' a second time")
        op: Op = meaning.op
        self.found.append(
            Operation(
                name=name,
                op=op,
                inputs=tuple(self.alias[source] for source in meaning.inputs),
                shape=_shape(node),
                cap=meaning.cap,
                function=meaning.function,
                arguments=meaning.arguments,
            )
        )
        self.alias[node] = name
        if meaning.flatten:
            flat = Operation(name=f"{name}_flat", op="flatten", inputs=(name,), shape=_shape(node))
            self.found[-1] = replace(self.found[-1], shape=(*_shape(node), 1, 1))
            self.found.append(flat)
            self.alias[node] = flat.name

    def _arrange(self, node: fx.Node, modules: dict[str, nn.Module]) -> bool:
        """Whether a node only moves values of one operation; whole channels become an operation."""
        sources = [source for source in node.all_input_nodes if not _is_number(source)]
        if len(sources) != 1:
            return False
        before = self.loose.get(sources[0]) or Arrangement.of(self.alias[sources[0]], sources[0])
        moved = before.moved(node, sources[0], modules)
        if moved is None:
            return False
        channels = moved.channels
        if channels is None:
            self.loose[node] = moved
        elif channels == tuple(range(moved.shape[1])):
            self.alias[node] = moved.origin
        else:
            arguments = {"channels": channels}
            self.found.append(Operation(node.name, "take", (moved.origin,), _shape(node), arguments=arguments))
            self.alias[node] = node.name
        return True

    def _finish(self, node: fx.Node) -> None:
        result = node.args[0]
        if not isinstance(result, fx.Node):
            self.refused.append("the output is not a single tensor")
            return
        if result in self.loose:
            self.refused.append(f"node '{result.name}' moves values about in a way that has no integer counterpart")
            return
        last = self.alias.get(result)
        if self.found and last != self.found[-1].name and not self.refused:
            self.refused.append(f"node '{self.found[-1].name}' runs after the output '{last}'")


def _is_number(node: fx.Node) -> bool:
    """Whether a node yields sizes rather than a tensor."""
    return node.op not in {"placeholder", "output"} and "tensor_meta" not in node.meta


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta: Any = node.meta["tensor_meta"]
    return tuple(int(size) for size in meta.shape[1:])
