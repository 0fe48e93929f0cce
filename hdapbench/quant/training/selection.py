"""Selection logits: which bit-width each channel takes, soft while searching and one-hot in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hdapbench.cost.bits import Selector
from hdapbench.errors import ModelError
from hdapbench.quant.training.choices import Granularity, Sampling

SETTLED = 1e-3
"""Temperature at which logits that differ by one leave a share of exactly one."""

FORBIDDEN = -1e4
"""Logit of a choice that is not allowed: its probability underflows to zero at any temperature up to 100."""


class SelectionLogits(nn.Module):
    """One real number per channel and weight bit-width, for all selectors of a network in one tensor.

    Attributes
    ----------
    logits : Parameter, shape (n_rows, n_bits)
        A row per channel, or per selector with ``granularity="layer"``. At the start ``bits / max(bits)``
        (arXiv 2407.01054), so that the greatest bit-width leads everywhere.
    temperature
        What logits are divided by.

    Parameters
    ----------
    selectors
        Those that are not prunable cannot take 0 bits, and each of the others keeps ``least_channels`` of its channels,
        those that prefer 0 bits least.
    bits
        Weight bit-widths to choose from, ascending; 0 prunes.
    sampling
        ``softmax`` mixes; ``hard`` takes the likeliest, with the gradient of the mixture (straight through);
        ``gumbel`` and ``gumbel-hard`` add Gumbel noise first. In eval mode always the likeliest, without noise.
    granularity
        ``layer`` makes one choice per selector.
    least_channels
        Channels of a prunable selector that cannot be removed.

    Raises
    ------
    ModelError
        When nothing but 0 bits is offered, or whole layers could be removed.
    """

    def __init__(
        self,
        selectors: Sequence[Selector],
        bits: Sequence[int],
        *,
        sampling: Sampling = "softmax",
        granularity: Granularity = "channel",
        least_channels: int = 1,
    ) -> None:
        super().__init__()
        if not any(bits) or sorted(set(bits)) != list(bits):
            raise ModelError(f"bit-widths must ascend without repeats, and not all be 0; got {list(bits)}")
        if bits[0] == 0 and granularity == "layer":
            raise ModelError("0 bits for a whole layer would cut the network; use granularity 'channel' to prune")
        self.selectors, self.bits = tuple(selectors), tuple(bits)
        self.sampling, self.granularity, self.least_channels = sampling, granularity, least_channels
        self.temperature = 1.0
        sizes = torch.tensor([selector.n_channels for selector in selectors])
        owner = torch.repeat_interleave(torch.arange(len(selectors)), sizes)  # (n_channels,)
        n_rows = len(owner) if granularity == "channel" else len(selectors)
        start = torch.tensor([p / max(bits) for p in bits])
        self.logits = nn.Parameter(start.repeat(n_rows, 1))
        prunable = torch.tensor([selector.prunable for selector in selectors])
        offset = torch.zeros(n_rows, len(bits))
        if bits[0] == 0:
            offset[~prunable[owner], 0] = FORBIDDEN
        # A position in a table of selectors by channels, to find the least willing channel of each at once.
        table = torch.arange(int(sizes.max())) < sizes[:, None]  # (n_selectors, max_channels)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("owner", owner, persistent=False)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("prunable", prunable, persistent=False)
        self.offset: Tensor
        self.owner: Tensor
        self.table: Tensor
        self.prunable: Tensor

    def forward(self) -> Tensor:
        """Share of each bit-width in each channel, shape (n_channels, n_bits); rows sum to one."""
        logits = self.allowed()
        if self.training and self.sampling.startswith("gumbel"):
            logits = logits - torch.empty_like(logits).exponential_().log()
        soft = (logits / self.temperature).softmax(1)
        if not self.training or self.sampling.endswith("hard"):
            chosen = torch.zeros_like(soft).scatter_(1, logits.argmax(1, keepdim=True), 1.0)
            soft = chosen if not self.training else chosen + soft - soft.detach()
        return soft[self.owner] if self.granularity == "layer" else soft

    def soft(self) -> Tensor:
        """Shares as softmax mixes them, whatever the sampling, shape (n_channels, n_bits)."""
        soft = (self.allowed() / self.temperature).softmax(1)
        return soft[self.owner] if self.granularity == "layer" else soft

    def counts(self, shares: Tensor) -> Tensor:
        """Channels of each selector at each bit-width, shape (n_selectors, n_bits), of shares per channel.

        On the CPU, where costs are counted: they are small.
        """
        zeros = torch.zeros(len(self.selectors), shares.shape[1], dtype=torch.float64)
        return zeros.index_add(0, self.owner.cpu(), shares.cpu().double())

    @torch.no_grad()
    def choices(self) -> dict[str, tuple[int, ...]]:
        """Selector -> bits of each channel: the likeliest ones."""
        chosen, owner = self.allowed().argmax(1), self.owner.cpu()
        if self.granularity == "layer":
            chosen = chosen[self.owner]
        bits = torch.tensor(self.bits)[chosen.cpu()]
        return {
            selector.name: tuple(int(value) for value in bits[owner == number])
            for number, selector in enumerate(self.selectors)
        }

    @torch.no_grad()
    def settle(self, choices: Mapping[str, Sequence[int]]) -> None:
        """Choose these bits, selector -> bits of each channel, and leave no doubt: shares become one-hot."""
        wanted = [value for selector in self.selectors for value in choices[selector.name]]
        columns = torch.tensor([self.bits.index(value) for value in wanted])
        if self.granularity == "layer":
            columns = columns[(self.owner.cpu()[:, None] == torch.arange(len(self.selectors))).int().argmax(0)]
        columns = columns.to(self.logits.device)
        self.logits.zero_()
        self.logits.scatter_(1, columns[:, None], 1.0)
        self.temperature = SETTLED

    def allowed(self) -> Tensor:
        """Logits with forbidden choices far below all others."""
        offset = self.offset
        if self.bits[0] == 0:
            with torch.no_grad():
                offset = offset.clone()
                offset[self._keepers(), 0] = FORBIDDEN
        return self.logits + offset

    def _keepers(self) -> Tensor:
        """Rows of the channels that each prunable selector must keep: those least willing to go."""
        # How far 0 bits lead over the best other choice.
        lead = self.logits[:, 0] - self.logits[:, 1:].amax(1)
        table = lead.new_full(self.table.shape, torch.inf)
        table[self.table] = lead
        least = min(self.least_channels, table.shape[1])
        columns = table.topk(least, dim=1, largest=False).indices  # (n_selectors, least)
        n_channels = self.table.sum(1)
        first = n_channels.cumsum(0) - n_channels
        real = (columns < n_channels[:, None]) & self.prunable[:, None]
        return (first[:, None] + columns)[real]
