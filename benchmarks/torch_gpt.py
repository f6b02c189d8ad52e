"""The GPT-2 architecture in plain torch, with torch's fused attention: the peer of `gpt_step`."""

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, D: int, H: int, dropout: float):
        super().__init__()
        self.heads, self.rate = H, dropout
        self.ln_1, self.ln_2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.up, self.down = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.drop = nn.Dropout(dropout)

    def forward(self, x):
        B, T, D = x.shape
        heads = lambda a: a.view(B, T, self.heads, D // self.heads).transpose(1, 2)
        q, k, v = map(heads, self.qkv(self.ln_1(x)).split(D, dim=2))
        read = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.rate if self.training else 0.0)
        x = x + self.drop(self.out(read.transpose(1, 2).reshape(B, T, D)))
        return x + self.drop(self.down(F.gelu(self.up(self.ln_2(x)))))


class GPT(nn.Module):
    def __init__(self, V: int, T: int, L: int, H: int, D: int, dropout: float = 0.0):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(V, D), nn.Embedding(T, D)
        self.blocks = nn.ModuleList([Block(D, H, dropout) for _ in range(L)])
        self.ln, self.drop = nn.LayerNorm(D), nn.Dropout(dropout)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.02)

    def forward(self, tokens):
        x = self.drop(self.tokens(tokens[:, :-1]) + self.positions.weight[: tokens.shape[1] - 1])
        for block in self.blocks:
            x = block(x)
        logits = self.ln(x) @ self.tokens.weight.T
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def stepper(V: int, T: int, L: int, H: int, D: int, B: int, dropout: float):
    """A function that makes one AdamW step on the same tokens and returns the loss."""
    torch.manual_seed(0)
    model = GPT(V, T, L, H, D, dropout)
    # the fused update is the fastest of torch's three on a processor
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    tokens = torch.randint(0, V, (B, T + 1))

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = model(tokens)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step
