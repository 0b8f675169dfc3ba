"""nano_before.py, made resumable.

nano_after.py TEXT [ITERATIONS]
"""

import sys
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from train.checkpoint import Checkpoints
from train.environment import JobEnvironment
from train.interruption import NOT_FINISHED, Interruption

max_iters = int(sys.argv[2]) if len(sys.argv) > 2 else 200
batch_size, block_size, n_embd = 8, 32, 32
torch.manual_seed(1337)
data = torch.tensor(list(Path(sys.argv[1]).read_bytes()))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(256, n_embd), nn.Embedding(block_size, n_embd)
        self.block = nn.TransformerEncoderLayer(n_embd, 4, 4 * n_embd, dropout=0.1, batch_first=True)
        self.head = nn.Linear(n_embd, 256)
        self.mask = nn.Transformer.generate_square_subsequent_mask(block_size)

    def forward(self, x, y):
        h = self.block(self.wte(x) + self.wpe.weight, src_mask=self.mask, is_causal=True)
        return F.cross_entropy(self.head(h).flatten(0, 1), y.flatten())


def get_batch():
    ix = torch.randint(len(data) - block_size, (batch_size,))
    return (torch.stack([data[i + shift : i + shift + block_size] for i in ix]) for shift in (0, 1))


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

environment = JobEnvironment.from_environment()
checkpoints = Checkpoints(environment, {"model": model, "optimizer": optimizer})
interruption = Interruption(environment)
iter_num = checkpoints.resume()
while iter_num < max_iters:
    x, y = get_batch()
    loss = model(x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    iter_num += 1
    print(f"iter {iter_num}: loss {loss.item():.9g}", flush=True)
    if interruption.agreed():
        checkpoints.save(iter_num)
        sys.exit(NOT_FINISHED if checkpoints.wait() else 1)

torch.save(model.state_dict(), "ckpt.pt")
