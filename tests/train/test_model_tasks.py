"""The tasks with models from transformers: what they learn, write and refuse. test_tasks.py tests their resuming."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import real_formats
import small_tasks
import torch
from small_tasks import SMALL

from train.__main__ import main
from train.data.tokenizer import Words
from train.tasks import detection, language_model_lora, linear_probe_finetune, segmentation, text_classification


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "a folder with spaces"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SPOT_NOTICES", "none")
    return folder


def train(name: str, data: Path, *flags: str) -> dict:
    """Return the result of a run in the working folder."""
    assert main([name, f"--data-dir={data}", *SMALL[name].flags, *flags]) == 0
    return json.loads(Path("outputs/result.json").read_text())


def epochs() -> list[dict]:
    return [json.loads(line) for line in Path("outputs/metrics.jsonl").read_text().splitlines()]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of one line of a run that ends with status 1."""
    capsys.readouterr()
    assert main(list(arguments)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_words() -> None:
    words = Words(["The cat, the dog.", "the cat"], 7)
    assert (words.size, words.pad, words.begin, words.end) == (7, 0, [2], [3])
    assert words.pieces("The CAT and the dog,") == [4, 5, 1, 4, 1, 6]  # of those that occur once, the comma is first
    assert words.encode("the the the the", 4) == [2, 4, 4, 3]


# The language model.


def test_adapters_are_all_that_is_trained_and_kept(work: Path) -> None:
    """peft loads them: the model with them is the trained one."""
    from peft import PeftModel
    from transformers import LlamaConfig, LlamaForCausalLM

    small_tasks.write_texts(work)
    result = train("language_model_lora", work, "--save-every=5", "--epochs=4")
    losses = [line["train_loss"] for line in epochs()]
    assert losses[-1] < losses[0] - 0.1
    assert result["validation_perplexity"] == pytest.approx(math.exp(result["validation_loss"]))

    kept = torch.load("checkpoints/final.pt", weights_only=True)
    assert len(kept) == 28  # two of seven layers, each with two matrices
    assert all(".lora_" in name for name in kept)
    task = language_model_lora.Task(
        language_model_lora.Config(data_dir=work, model_size="tiny"), small_tasks.JobEnvironment.from_environment({}),
        torch.device("cpu"),
    )  # fmt: skip
    torch.manual_seed(0)
    trained = task.model()
    trained.load_state_dict(kept, strict=False)
    torch.manual_seed(0)
    sizes = {**language_model_lora.TINY, "vocab_size": task.tokenizer.size, "max_position_embeddings": 2048}
    base = LlamaForCausalLM(LlamaConfig(**sizes))
    plain_BTV = base.eval()(torch.arange(8)[None]).logits
    loaded = PeftModel.from_pretrained(base, "outputs/adapter")
    logits_BTV = loaded.eval()(torch.arange(8)[None]).logits
    assert torch.equal(logits_BTV, trained.eval()(torch.arange(8)[None]).logits)
    assert not torch.allclose(logits_BTV, plain_BTV, atol=1e-3)
    # For each weight, the optimizer's two moments and the weight itself; the frozen model is five times as large.
    adapters = sum(value.numel() for value in kept.values()) * 4
    files = [*Path("checkpoints").glob("step_*/*.distcp")]
    assert files
    assert max(file.stat().st_size for file in files) < 3 * adapters + 300_000


def test_prompts_and_filling_are_not_learned() -> None:
    words = Words(["a b c d"], 9)
    texts = language_model_lora.Texts([("a b", "c"), ("", "d")], words, 4)
    batch = texts.collate([texts[0], texts[1]])
    assert batch["input_ids"].tolist() == [[2, 4, 5, 6], [2, 7, 3, 0]]
    assert batch["labels"].tolist() == [[-100, -100, -100, 6], [-100, 7, 3, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]


def test_a_language_model_and_its_tokenizer_from_a_folder(work: Path) -> None:
    """Train on texts, and on tokens in one long file."""
    model = work / "a model"
    write_llama(model)
    (work / "texts").mkdir()
    small_tasks.write_texts(work / "texts")
    flags = (f"--model-dir={model}", "--epochs=1", "--lora-targets=q_proj,v_proj", "--checkpoint-activations")
    assert train("language_model_lora", work / "texts", *flags)["validation_perplexity"] < 64
    settings = json.loads(Path("outputs/adapter/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(model)
    assert sorted(settings["target_modules"]) == ["q_proj", "v_proj"]
    shutil.rmtree("checkpoints")
    real_formats.write_tokens(work / "tokens", 400, 100, vocabulary=20)
    assert train("language_model_lora", work / "tokens", *flags, "--sequence-length=16")["epochs"] == 1


def write_llama(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = re.findall(r"\S+", "<s> </s> <unk> the cat sat on mat . a dog ran in park today birds fly and so it was")
    tokens = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokens, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    LlamaForCausalLM(LlamaConfig(vocab_size=len(words), **language_model_lora.TINY)).save_pretrained(folder)


# The probe.


def test_a_probe_is_trained_once_and_its_backbone_stays(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It also works when only the copies in the bucket are left."""
    small = SMALL["linear_probe_finetune"]
    small.write(work)
    monkeypatch.setenv("CHECKPOINT_URL", f"file://{work}/bucket")
    begun: list[dict[str, torch.Tensor]] = []
    fit = linear_probe_finetune.loop.fit

    def recording_fit(task, environment, device, initial=None, **options):
        begun.append(initial)
        return fit(task, environment, device, initial, **options)

    monkeypatch.setattr(linear_probe_finetune.loop, "fit", recording_fit)
    whole = train("linear_probe_finetune", work, "--save-every=4")
    assert len(epochs()) == 4
    assert (work / "outputs/probe/result.json").is_file()
    probe = torch.load("checkpoints/probe/final.pt", weights_only=True)
    assert sorted(probe) == ["head.bias", "head.weight"]
    assert begun[0] is None
    assert all(torch.equal(begun[1][name], value) for name, value in probe.items())
    final = torch.load("checkpoints/finetune/final.pt", weights_only=True)
    assert any(name.startswith("backbone.encoder") for name in final)

    # Only the second half of the fine-tuning is trained again.
    for folder in ("checkpoints", "outputs"):
        shutil.rmtree(folder)
    capsys.readouterr()
    again = train("linear_probe_finetune", work, "--save-every=4")
    said = capsys.readouterr().out
    steps = re.findall(r"resumed at step (\d+) of (\d+)", said)
    assert steps == [("12", "12"), ("12", "12")]
    for result in (whole, again):
        for name in small_tasks_times:
            result.pop(name)
    assert again == whole

    # When the probe's results exist, it is not even evaluated again.
    train("linear_probe_finetune", work, "--save-every=4")
    assert len(begun) == 5


small_tasks_times = ("seconds", "samples_per_second")


def test_the_frozen_backbone_computes_as_in_evaluation() -> None:
    from transformers import Dinov2Config, Dinov2Model

    settings = Dinov2Config(image_size=28, drop_path_rate=0.5, **linear_probe_finetune.TINY)
    for frozen in (True, False):
        network = linear_probe_finetune.Network(Dinov2Model(settings), 5, 28, frozen).train()
        assert network.backbone.training is not frozen
        assert network.head.training
        trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
        assert (trained == ["head.weight", "head.bias"]) is frozen
        assert network(torch.zeros(2, 3, 32, 32, dtype=torch.uint8)).shape == (2, 5)


def test_the_probe_of_class_folders_and_a_model_from_a_folder(work: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    Dinov2Model(Dinov2Config(image_size=28, **linear_probe_finetune.TINY)).save_pretrained(work / "model")
    real_formats.write_class_folders(work / "data")
    train("linear_probe_finetune", work / "data", f"--model-dir={work / 'model'}", "--learning-rate=2e-2")
    losses = [line["train_loss"] for line in epochs()]
    assert losses[-1] < losses[0]
    assert torch.load("checkpoints/finetune/final.pt", weights_only=True)["head.weight"].shape == (3, 32)


# Text.


def test_texts_are_sorted_better_than_by_chance(work: Path) -> None:
    """Classes are given by name, and the BERT comes from a folder whose head has other classes."""
    real_formats.write_jsonl(work / "named", 96, 32, names=True)
    result = train("text_classification", work / "named", "--learning-rate=1e-2", "--epochs=3")
    assert result["validation_accuracy"] > 0.6
    assert epochs()[0]["train_loss"] < 1.6


def test_the_learning_rate_of_bert() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = text_classification.linear_with_warmup(optimizer, 8, 2)
    rates = []
    for _ in range(9):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1 / 2, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


# Segmentation.


def test_confusion_and_mean_iou_by_hand() -> None:
    masks = torch.tensor([[[0, 0, 1], [1, 255, 0]]])
    told = torch.tensor([[[0, 1, 1], [0, 1, 0]]])
    counts = segmentation.confusion(masks, told, 3)
    assert counts.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert segmentation.mean_iou(counts.double()) == pytest.approx((2 / 4 + 1 / 3) / 2)  # the third exists nowhere


def test_segmentation_learns(work: Path) -> None:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    real_formats.write_coco(work / "coco", 24, 8)
    folder = work / "model"
    SegformerForSemanticSegmentation(SegformerConfig(num_labels=7, **segmentation.TINY)).save_pretrained(folder)
    result = train("segmentation", work / "coco", f"--model-dir={folder}", "--learning-rate=1e-2", "--epochs=4")
    losses = [line["train_loss"] for line in epochs()]
    assert losses[-1] < losses[0] - 0.2
    assert result["validation_pixel_accuracy"] > 0.5


# Detection.


def one_image(boxes: list, labels: list[int], crowds: list = (), crowd_labels: list[int] = ()) -> dict:
    return {
        "boxes": torch.tensor(boxes).view(-1, 4),
        "class_labels": torch.tensor(labels, dtype=torch.int64),
        "crowd_boxes": torch.tensor(crowds).view(-1, 4),
        "crowd_labels": torch.tensor(crowd_labels, dtype=torch.int64),
    }


def test_detections_by_hand() -> None:
    """The better of two detections on one object, one of the other class, one in a crowd, one beside all objects."""
    scores = torch.tensor([[0.7, 0.1], [0.9, 0.0], [0.2, 0.6], [0.5, 0.3], [0.4, 0.0]])
    boxes = torch.tensor(
        [[0.2, 0.2, 0.2, 0.2], [0.21, 0.2, 0.2, 0.2], [0.2, 0.2, 0.2, 0.2], [0.8, 0.8, 0.1, 0.1], [0.2, 0.8, 0.1, 0.1]]
    )
    label = one_image([[0.2, 0.2, 0.2, 0.2]], [0], [[0.8, 0.8, 0.4, 0.4]], [0])
    counts = detection.detections(scores, boxes, label)
    places = {name: counts[name].nonzero().tolist() for name in ("right", "wrong")}
    assert places == {"right": [[0, 900]], "wrong": [[0, 400], [0, 700], [1, 600]]} or places == {
        "right": [[0, 899]],
        "wrong": [[0, 400], [0, 699], [1, 600]],
    }
    assert counts["objects"].tolist() == [1, 0]


def test_average_precision_is_that_of_ranked_detections() -> None:
    """Compare with the definition, detection by detection, with scores in separate bins."""
    generator = np.random.default_rng(0)
    bins = generator.permutation(detection.BINS)[:40]
    hits = generator.random(40) < 0.6
    right, wrong = torch.zeros(2, detection.BINS), torch.zeros(2, detection.BINS)
    right[0, bins[hits]], wrong[0, bins[~hits]] = 1, 1
    objects = 30
    ranked = hits[np.argsort(-bins)]
    recall, precision = ranked.cumsum() / objects, ranked.cumsum() / np.arange(1, 41)
    expected = [max(precision[recall >= wanted - 1e-9], default=0) for wanted in np.linspace(0, 1, 101)]
    value = detection.average_precision(right, wrong, torch.tensor([objects, 0]))
    assert value == pytest.approx(np.mean(expected))
    assert 0.3 < value < 0.9
    assert detection.average_precision(right, 0 * wrong, torch.tensor([int(hits.sum()), 0])) == pytest.approx(1)


def test_the_loss_is_a_sum_over_images() -> None:
    """The loss does not depend on how a batch is split; an image without objects has a loss, too."""
    from transformers import DetrConfig

    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, num_labels=3)
    generator = torch.Generator().manual_seed(0)
    logits, boxes = torch.randn(3, 6, 4, generator=generator), torch.rand(3, 6, 4, generator=generator)
    labels = [
        one_image([[0.5, 0.5, 0.2, 0.2], [0.2, 0.2, 0.1, 0.3]], [1, 2]),
        one_image([], []),
        one_image([[0.5] * 4], [0]),
    ]

    def loss(part: slice) -> float:
        device = torch.device("cpu")
        total, *_ = detection.summed_loss(
            logits[part], labels[part], device, boxes[part], config, torch.stack([logits[part]] * 2), boxes[None, part]
        )
        return total.item()

    singles = [loss(slice(place, place + 1)) for place in range(3)]
    assert loss(slice(0, 3)) == pytest.approx(sum(singles))
    assert min(singles) > 0.1


def test_images_of_two_sizes_in_one_batch(work: Path) -> None:
    real_formats.write_coco(work / "wide", 2, 1)
    real_formats.write_coco(work / "high", 2, 1, width=48, height=64)
    samples = []
    for name in ("wide", "high"):
        annotations = work / name / "annotations/instances_train2017.json"
        coco = detection.Coco(annotations, work / name / "train2017")
        samples.append(detection.Scaled(coco, 24, 64)[0])
        mirrored = detection.Scaled(coco, 24, 64, mirrored=1.0)[0]
        assert torch.equal(mirrored[0], samples[-1][0].flip(2))
        assert torch.allclose(mirrored[1]["boxes"][:, 0], 1 - samples[-1][1]["boxes"][:, 0])
    batch = detection.Scaled.collate(samples)
    assert batch["images"].shape == (2, 3, 32, 32)
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [24 * 32, 32 * 24]
    assert batch["images"][0, :, 24:].sum() == 0


def test_detection_learns_from_a_model_in_a_folder(work: Path) -> None:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(out_features=["stage4"], **detection.TINY_BACKBONE)
    plain = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
    settings = DetrConfig(**plain, backbone_config=backbone, num_labels=9, **detection.TINY)
    DetrForObjectDetection(settings).save_pretrained(work / "model")
    real_formats.write_coco(work / "coco", 16, 4)
    flags = (f"--model-dir={work / 'model'}", "--learning-rate=1e-3", "--epochs=4")
    train("detection", work / "coco", *flags)
    losses = [line["train_loss"] for line in epochs()]
    assert losses[-1] < losses[0]


# Wrong data and flags that they refuse.


@pytest.mark.parametrize(
    ("task", "package"),
    [("language_model_lora", "peft"), ("detection", "scipy"), ("text_classification", "transformers")],
)
def test_a_missing_library_is_said_with_the_command(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    said = refused(capsys, task, f"--data-dir={work}")
    assert said.startswith(f"python -m train: this task needs {package}: pip install transformers")


def test_unsound_data_and_models_are_named(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"--data-dir={work}"
    assert f"no train.jsonl in {work}" in refused(capsys, "language_model_lora", data)
    small_tasks.write_texts(work)
    (work / "test.jsonl").write_text('{"text": "fine"}\n{"prompt": "no completion"}\n')
    assert f"{work}/test.jsonl: line 2: not of the form" in refused(capsys, "language_model_lora", data)
    (work / "test.jsonl").write_text("\n")
    assert "test.jsonl: no line of text" in refused(capsys, "language_model_lora", data)
    real_formats.write_tokens(work, 400, 100)
    (work / "val.bin").unlink()
    assert "no val.bin or val.npy" in refused(capsys, "language_model_lora", data, "--sequence-length=16")
    (work / "empty").mkdir()
    assert "neither train.csv nor train.jsonl" in refused(capsys, "text_classification", f"--data-dir={work}/empty")
    for name in ("segmentation", "detection"):
        assert "instances_train2017.json" in refused(capsys, name, f"--data-dir={work}/empty")
    assert "cifar-100-python" in refused(capsys, "linear_probe_finetune", f"--data-dir={work}/empty")
    SMALL["linear_probe_finetune"].write(work)
    said = refused(capsys, "linear_probe_finetune", data, f"--model-dir={work}/empty")
    assert f"--model-dir {work}/empty: no config.json there" in said


def test_flags_out_of_range(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        "language_model_lora": ("--lora-rank=0", "--sequence-length=1", "--vocabulary=4", "--lora-dropout=1"),
        "linear_probe_finetune": ("--image-size=30", "--finetune-divisor=0"),
        "text_classification": ("--warmup=1", "--weight-decay=-1", "--vocabulary=4", "--sequence-length=2"),
        "segmentation": ("--image-size=16", "--weight-decay=-1"),
        "detection": ("--shorter-side=16", "--longer-side=700", "--backbone-learning-rate=0", "--weight-decay=-1"),
    }
    for task, flag in itertools.chain.from_iterable([(task, flag) for flag in flags] for task, flags in wrong.items()):
        with pytest.raises(SystemExit) as ended:
            main([task, flag])
        assert ended.value.code == 2
        assert f"{flag.partition('=')[0]} must be" in capsys.readouterr().err
