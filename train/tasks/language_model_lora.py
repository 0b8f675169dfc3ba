"""Fine-tuning of a causal language model (Llama, distilled DeepSeek, …) with low-rank adapters (LoRA).

The model itself does not change (Hu et al., arXiv:2106.09685). Gradients, optimizer state and checkpoints contain only
the adapters, and the output folder gets `adapter/` for PeftModel.from_pretrained.

Data: train.jsonl and test.jsonl with lines {"text": …}, or {"prompt": …, "completion": …}, where only the completion
is learned; or train.bin and val.bin (or .npy) with the tokenizer's tokens, in nanoGPT's format.
Shape suffixes: B texts of a batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from ..config import TrainingConfig
from ..data.tokenizer import Tokenizer
from ..data.tokens import Tokens
from ..environment import KEYWORD_ONLY, JobEnvironment
from ..files import replaced
from ..models import pretrained
from ..task import Task as BaseTask

IGNORED = -100
TINY = {
    **{"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2},
    **{"num_attention_heads": 4, "num_key_value_heads": 2},
}


@dataclass(frozen=True, **KEYWORD_ONLY)
class Config(TrainingConfig):
    """The task's flags."""

    epochs: int = 1
    batch_size: int = 4
    test_batch_size: int = 8
    learning_rate: float = 1e-5
    parallelism: Literal["ddp", "fsdp"] = "fsdp"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    model_dir: Optional[Path] = None  # noqa: UP045
    """Folder of a causal language model and its tokenizer, as save_pretrained writes them. Default: random weights and
    the words of the data."""
    model_size: Literal["tiny", "base"] = "base"
    """Size without --model-dir: tiny, or base (Llama-2-7B)."""
    vocabulary: int = 32_000
    """Vocabulary size without --model-dir; the most frequent words are used."""
    sequence_length: int = 1024
    """Maximum number of tokens; longer texts are truncated."""
    token_dtype: Literal["uint16", "uint32"] = "uint16"  # noqa: S105
    """Data type of a .bin file."""
    lora_rank: int = 16
    """Rank of the adapters."""
    lora_alpha: float = 32.0
    """The output of the adapters is multiplied by alpha / rank."""
    lora_dropout: float = 0.05
    """Dropout probability on the input of the adapters."""
    lora_targets: str = "all-linear"
    """Layers that get an adapter: names separated by commas (q_proj,v_proj), or all-linear: all except the last."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check("lora_rank", self.lora_rank >= 1, "at least 1")
        self.check("sequence_length", self.sequence_length >= 2, "at least 2")
        self.check("vocabulary", self.vocabulary >= 5, "at least 5")
        self.check("lora_dropout", 0 <= self.lora_dropout < 1, "from 0 to below 1")


class Task(BaseTask[Config]):
    """AdamW on the adapters, with a cosine schedule."""

    name = "language_model_lora"
    headline = "validation_perplexity"
    weighs_samples = False  # Texts have different numbers of tokens.
    saves_frozen = False

    def __init__(self, config: Config, environment: JobEnvironment, device: torch.device) -> None:
        super().__init__(config, environment, device)
        self.transformers, self.peft = pretrained.library("transformers"), pretrained.library("peft")
        self.tokenizer: Tokenizer | None = None
        if any(self.folder.glob("train.[bn][ip][ny]")):
            if config.model_dir is not None:
                self.tokenizer = pretrained.PretrainedTokenizer(config.model_dir)
            self.train_data, self.test_data = (self._windows(split) for split in ("train", "val"))
        else:
            train, test = (read(self.folder / f"{split}.jsonl") for split in ("train", "test"))
            words = (text for pair in train for text in pair)
            self.tokenizer = pretrained.tokenizer(config.model_dir, words, config.vocabulary)
            self.train_data = Texts(train, self.tokenizer, config.sequence_length)
            self.test_data = Texts(test, self.tokenizer, config.sequence_length)

    def _windows(self, split: str) -> Windows:
        path = next(
            (path for path in (self.folder / f"{split}{end}" for end in (".bin", ".npy")) if path.exists()), None
        )
        if path is None:
            raise FileNotFoundError(f"no {split}.bin or {split}.npy in {self.folder}")
        length = self.config.sequence_length - 1  # Windows adds the next token.
        return Windows(Tokens(path, length, vocabulary=self._vocabulary(), dtype=self.config.token_dtype))

    def _vocabulary(self) -> int:
        return self.config.vocabulary if self.tokenizer is None else self.tokenizer.size

    def model(self) -> nn.Module:
        if self.config.model_dir is not None:
            base = pretrained.load("AutoModelForCausalLM", self.config.model_dir)
        else:
            sizes = TINY if self.config.model_size == "tiny" else {}
            positions = max(2048, self.config.sequence_length)
            settings = self.transformers.LlamaConfig(
                vocab_size=self._vocabulary(), max_position_embeddings=positions, **sizes
            )
            base = self.transformers.LlamaForCausalLM(settings)
        targets = self.config.lora_targets
        lora = self.peft.LoraConfig(
            task_type="CAUSAL_LM",
            r=self.config.lora_rank,
            lora_alpha=self.config.lora_alpha,
            lora_dropout=self.config.lora_dropout,
            target_modules=targets if targets == "all-linear" else targets.split(","),
        )
        self.adapted: Any = self.peft.get_peft_model(base, lora)  # A module with peft's settings.
        model: nn.Module = self.adapted
        return model

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        adapters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return torch.optim.AdamW(adapters, lr=self.config.learning_rate)

    def weight(self, batch: Any) -> int:  # noqa: ANN401
        """Return the number of target tokens."""
        return int((batch["labels"][:, 1:] != IGNORED).sum())

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:  # noqa: ANN401
        logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False).logits
        told_BT = batch["labels"][:, 1:]  # Each token is predicted from those before it.
        return F.cross_entropy(
            logits_BTV[:, :-1].float().flatten(0, 1), told_BT.flatten(), ignore_index=IGNORED, reduction="sum"
        )

    def evaluate(self, model: nn.Module, batch: Any) -> dict[str, torch.Tensor]:  # noqa: ANN401
        return {"loss": self.loss(model, batch), "count": torch.tensor(self.weight(batch))}

    def summarize(self, totals: dict[str, torch.Tensor]) -> dict[str, float]:
        loss = totals["loss"].item() / max(1.0, totals["count"].item())
        return {"validation_loss": loss, "validation_perplexity": math.exp(min(loss, 700.0))}

    def write(self, state: dict[str, torch.Tensor]) -> None:
        """Write the adapters in peft's format: adapter/adapter_config.json and adapter/adapter_model.safetensors."""
        from safetensors.torch import save

        folder = self.environment.output_directory / "adapter"
        weights = self.peft.get_peft_model_state_dict(self.adapted, state_dict=state, save_embedding_layers=False)
        settings = copy.copy(self.adapted.peft_config["default"])
        settings.inference_mode = True  # As save_pretrained does: loaded adapters are not trained.
        settings.save_pretrained(folder)
        with replaced(folder / "adapter_model.safetensors") as file:
            file.write(save({name: value.contiguous() for name, value in weights.items()}, metadata={"format": "pt"}))


class Padded(Dataset[dict[str, list[int]]]):
    """Samples of different lengths."""

    pad = 0

    def collate(self, samples: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Return input_ids_BT, labels_BT and attention_mask_BT, padded to the longest sample of the batch."""

        def padded(name: str, filler: int) -> torch.Tensor:
            rows = [torch.tensor(sample[name]) for sample in samples]
            return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=filler)

        lengths_B = torch.tensor([len(sample["input_ids"]) for sample in samples])
        input_ids_BT = padded("input_ids", self.pad)
        mask_BT = (torch.arange(input_ids_BT.shape[1]) < lengths_B[:, None]).long()
        return {"input_ids": input_ids_BT, "labels": padded("labels", IGNORED), "attention_mask": mask_BT}


class Windows(Padded):
    """Pieces of one long text, all of the same length."""

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        x_T, y_T = self.tokens[index]
        numbers = [*x_T.tolist(), int(y_T[-1])]
        return {"input_ids": numbers, "labels": numbers}


class Texts(Padded):
    """Prompts and completions, tokenized when they are accessed."""

    def __init__(self, pairs: Sequence[tuple[str, str]], tokens: Tokenizer, limit: int) -> None:
        self.pairs, self.tokens, self.limit, self.pad = pairs, tokens, limit, tokens.pad

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        prompt, completion = (self.tokens.pieces(text) if text else [] for text in self.pairs[index])
        asked, told = [*self.tokens.begin, *prompt], [*completion, *self.tokens.end]
        numbers = [*asked, *told] or [self.pad]  # An empty text, with a tokenizer that adds no special tokens.
        labels = [*[IGNORED] * len(asked), *told] or [IGNORED]
        return {"input_ids": numbers[: self.limit], "labels": labels[: self.limit]}


def read(path: Path) -> list[tuple[str, str]]:
    """Read prompts (which may be empty) and completions from `path`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is invalid, or there is none. The message names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {path.name} in {path.parent}")
    pairs = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                content = json.loads(line)
                texts = ("", content["text"]) if "text" in content else (content["prompt"], content["completion"])
                if not all(isinstance(text, str) for text in texts):
                    raise TypeError
            except (ValueError, TypeError, KeyError):
                needed = '{"text": "…"} or {"prompt": "…", "completion": "…"}'
                raise ValueError(f"{path}: line {number}: not of the form {needed}: {line.strip()[:80]!r}") from None
            pairs.append(texts)
    if not pairs:
        raise ValueError(f"{path}: no line of text")
    return pairs
