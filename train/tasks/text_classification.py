"""Text classification with BERT, such as the four classes of AG News.

Data: train.csv and test.csv in the format of AG News (class, title, description), or train.jsonl and test.jsonl with
lines {"text": …, "label": …}. Shape suffixes: B texts of a batch, T tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from torch import nn
from torch.utils.data import Dataset

from ..config import TrainingConfig
from ..data import text
from ..data.tokenizer import Tokenizer
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..models import pretrained
from ..task import Classification

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 3
    batch_size: int = 8
    test_batch_size: int = 64
    learning_rate: float = 5e-5
    warmup: float = 0.1
    """Fraction of all steps over which the learning rate rises, before it falls linearly to 0."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    model_dir: Optional[Path] = None  # noqa: UP045
    """Folder of a BERT or similar model and its tokenizer, as save_pretrained writes them. Default: random weights and
    the words of the data."""
    model_size: Literal["tiny", "base"] = "base"
    """Size without --model-dir: tiny, or base (BERT-base)."""
    vocabulary: int = 30_000
    """Vocabulary size without --model-dir; the most frequent words are used."""
    sequence_length: int = 128
    """Maximum number of tokens; longer texts are truncated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("warmup", 0 <= self.warmup < 1, "from 0 to below 1")
        self.check("weight_decay", self.weight_decay >= 0, "at least 0")
        self.check("vocabulary", self.vocabulary >= 5, "at least 5")
        self.check("sequence_length", self.sequence_length >= 3, "at least 3")


class Task(Classification[Config]):
    """AdamW with a learning rate that rises and falls linearly."""

    name = "text_classification"

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.transformers = pretrained.library("transformers")
        train_texts = text.read(find(self.folder, "train"))
        test_texts = text.read(find(self.folder, "test"), train_texts.names)
        self.names = train_texts.names
        self.tokenizer = pretrained.tokenizer(config.model_dir, train_texts.texts, config.vocabulary)
        self.train_data, self.test_data = (
            Numbered(texts, self.tokenizer, config.sequence_length) for texts in (train_texts, test_texts)
        )

    def model(self) -> nn.Module:
        config = self.config
        if config.model_dir is not None:
            kind = "AutoModelForSequenceClassification"
            # A head for other classes is replaced.
            return pretrained.load(kind, config.model_dir, num_labels=len(self.names), ignore_mismatched_sizes=True)
        settings = self.transformers.BertConfig(
            vocab_size=self.tokenizer.size,
            num_labels=len(self.names),
            max_position_embeddings=max(512, config.sequence_length),
            **(TINY if config.model_size == "tiny" else {}),
        )
        model: nn.Module = self.transformers.BertForSequenceClassification(settings)
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay
        )

    def schedule(
        self, optimizer: torch.optim.Optimizer, steps: int, steps_per_epoch: int
    ) -> torch.optim.lr_scheduler.LRScheduler:
        del steps_per_epoch
        return linear_with_warmup(optimizer, steps, round(self.config.warmup * steps))

    def logits(self, model: nn.Module, inputs: Any) -> torch.Tensor:  # noqa: ANN401
        logits_BK: torch.Tensor = model(**inputs).logits
        return logits_BK


class Numbered(Dataset[tuple[list[int], int]]):
    """Texts, tokenized when they are accessed, and their classes."""

    def __init__(self, texts: text.Texts, tokens: Tokenizer, limit: int) -> None:
        self.texts, self.tokens, self.limit = texts, tokens, limit

    def __len__(self) -> int:
        return len(self.texts.texts)

    def __getitem__(self, index: int) -> tuple[list[int], int]:
        return self.tokens.encode(self.texts.texts[index], self.limit), int(self.texts.labels_N[index])

    def collate(self, samples: Sequence[tuple[list[int], int]]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Return input_ids_BT and attention_mask_BT, padded to the longest text of the batch, and labels_B."""
        rows = [torch.tensor(numbers) for numbers, _ in samples]
        inputs = {
            "input_ids": nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.tokens.pad),
            "attention_mask": nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        }
        return inputs, torch.tensor([label for _, label in samples])


def find(folder: Path, split: str) -> Path:
    """Return the file of a split.

    Raises:
        FileNotFoundError: there is none.
    """
    for path in (folder / f"{split}.csv", folder / f"{split}.jsonl"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"neither {split}.csv nor {split}.jsonl in {folder}")


def linear_with_warmup(optimizer: torch.optim.Optimizer, steps: int, warmup: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule whose learning rate rises over `warmup` steps, then falls linearly to 0."""

    def factor(step: int) -> float:
        return (step + 1) / warmup if step < warmup else max(0, steps - step) / max(1, steps - warmup)

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
