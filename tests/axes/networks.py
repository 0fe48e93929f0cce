"""Small networks whose channels meet in other ways than a convolution's: what labels of dimensions are tried on."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SHAPE = (3, 8, 8)


class Attention(nn.Module):
    """Self-attention whose heads are counted in an attribute, and whose width is what is left."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.scale = n_heads, (width // n_heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).reshape(*x.shape[:2], 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.out(mixed.transpose(1, 2).flatten(2))


class Transformer(nn.Module):
    """A patch embedding, a class token, positions, and a block with layer scale."""

    def __init__(self, width: int = 12, n_patches: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, 2)
        self.token, self.positions = (
            nn.Parameter(torch.randn(1, 1, width)),
            nn.Parameter(torch.randn(1, n_patches + 1, width)),
        )
        self.norm1, self.attention, self.gamma = (
            nn.LayerNorm(width),
            Attention(width, 3),
            nn.Parameter(torch.ones(width)),
        )
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 16), nn.Linear(16, width)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        x = x + self.gamma * self.attention(self.norm1(x))
        x = x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))
        return self.head(self.norm(x)[:, 0])


class Windows(nn.Module):
    """Attention in shifted windows with a table of relative biases, and a merging of patches, as in Swin."""

    def __init__(self, width: int = 8, n_heads: int = 2) -> None:
        super().__init__()
        self.stem, self.n_heads = nn.Conv2d(3, width, 1), n_heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn(49, n_heads))
        self.register_buffer("index", torch.randint(0, 49, (256,)))
        self.merged, self.reduction = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)
        self.head = nn.Linear(2 * width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        n, height, width, _ = x.shape
        y = torch.roll(self.norm(x), (-2, -2), (1, 2))
        y = y.view(n, height // 4, 4, width // 4, 4, -1).transpose(2, 3).flatten(0, 2).flatten(1, 2)
        q, k, v = self.qkv(y).reshape(*y.shape[:2], 3, self.n_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].view(16, 16, -1).permute(2, 0, 1).unsqueeze(0)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.5)
        y = self.out(y.transpose(1, 2).flatten(2))
        y = y.view(n, height // 4, width // 4, 4, 4, -1).transpose(2, 3).reshape(n, height, width, -1)
        x = x + torch.roll(y, (2, 2), (1, 2))
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
        return self.head(self.reduction(self.merged(x)).mean((1, 2)))


class Norms(nn.Module):
    """Group norm, instance norm, RMS norm and PReLU after convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.group, self.act = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.PReLU(8)
        self.second, self.instance = nn.Conv2d(8, 6, 3), nn.InstanceNorm2d(6, affine=True)
        self.third, self.rms, self.head = nn.Linear(6, 10), nn.RMSNorm(10), nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.instance(self.second(self.act(self.group(self.first(x)))))
        return self.head(self.rms(self.third(functional.relu(x).mean((2, 3)))))


class Shuffle(nn.Module):
    """A grouped convolution, a channel shuffle, and halves of which one goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 1, groups=2)
        self.inner, self.depthwise, self.tail = nn.Conv2d(6, 7, 1), nn.Conv2d(7, 14, 3, groups=7), nn.Conv2d(20, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.grouped(self.stem(x)))
        n, channels, height, width = x.shape
        x = x.view(n, 2, channels // 2, height, width).transpose(1, 2).reshape(n, channels, height, width)
        left, right = x.chunk(2, 1)
        right = functional.relu(self.depthwise(functional.relu(self.inner(right))))
        x = torch.cat([left[:, :, 1:-1, 1:-1], right], 1)
        return self.head(functional.relu(self.tail(x)).mean((2, 3)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, beside a shortcut that is concatenated; up again by a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.down = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 2, 2)
        self.up, self.both = nn.ConvTranspose2d(8, 5, 2, 2), nn.Conv2d(11, 12, 1)
        self.shuffle, self.last, self.head = nn.PixelShuffle(2), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.inner(x))
        x = torch.cat([x, functional.relu(self.up(functional.relu(self.down(x))))], 1)
        x = self.shuffle(functional.relu(self.both(x)))
        return self.head(functional.relu(self.last(x)).mean((2, 3)))


class Gates(nn.Module):
    """Squeeze and excitation, a gated unit, and a convolution that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.twice = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.squeeze, self.excite = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.gate, self.head = nn.Linear(8, 12), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = functional.relu(self.twice(functional.relu(self.twice(x))))
        weights = torch.sigmoid(self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(x, 1)))))
        value, gate = self.gate((x * weights).mean((2, 3))).chunk(2, -1)
        return self.head(value * functional.silu(gate))


class Sequence(nn.Module):
    """Convolutions over one dimension, an einsum, and two layers that share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.Conv1d(8, 8, 1)
        self.query, self.key = nn.Linear(8, 6), nn.Linear(8, 6)
        self.encode, self.decode = nn.Linear(8, 10, bias=False), nn.Linear(8, 10, bias=False)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(functional.relu(self.norm(self.first(x.flatten(2))))).transpose(1, 2)
        weights = torch.einsum("nik,njk->nij", self.query(x), self.key(x)).softmax(-1)
        x = weights @ x
        return self.head(functional.relu(self.encode(x) + self.decode(x)).mean(1))


class Recurrent(nn.Module):
    """A GRU between a convolution and a classifier: what it reads can be cut, its own channels cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 1)
        self.gru, self.hidden, self.head = nn.GRU(8, 7, batch_first=True), nn.Linear(7, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.second(functional.relu(self.first(x)))).flatten(2).transpose(1, 2)
        return self.head(functional.relu(self.hidden(self.gru(x)[0][:, -1])))


class HardCoded(nn.Module):
    """A reshape whose numbers are written in the code, one of them in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.free, self.noted, self.fixed = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.free(x))
        x = functional.relu(self.noted(x)).reshape(x.shape[0], self.width, 64).reshape(x.shape[0], self.width, 8, 8)
        x = functional.relu(self.fixed(x)).reshape(x.shape[0], 6, 64)
        return self.head(x.mean(2))


class Mixer(nn.Module):
    """A layer over tokens, whose rows are channels, as in MLP-Mixer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches, self.tokens1, self.tokens2 = nn.Conv2d(3, width, 2, 2), nn.Linear(16, 12), nn.Linear(12, 16)
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(width), nn.Linear(width, 10), nn.Linear(10, width)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        x = (x + self.tokens2(functional.gelu(self.tokens1(x)))).transpose(1, 2)
        return self.head((x + self.fc2(functional.gelu(self.fc1(self.norm(x))))).mean(1))
