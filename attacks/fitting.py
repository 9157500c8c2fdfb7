"""Teacher-forced fitting of a captioner: how victims are made, and how ``tiny`` learns at all.

Resumable: after every epoch the state is written next to the output, and a run that finds such a
state with the same configuration goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.encoder_inputs import EncoderInputs, load_canvases
from srd_edge.attacks.progress import tracked
from srd_edge.attacks.samples import Sample

_STATE: Final = "fitting.pt"
_LOG: Final = "fitting.jsonl"


@dataclass(frozen=True, slots=True)
class FitConfig:
    """How a captioner is fitted.

    Args:
        epochs: passes over the pictures, one caption of each chosen at random a pass.
        batch: pictures in a step.
        learning_rate: peak, AdamW; 5 % linear warm-up, then a cosine to zero.
        encoder_learning_rate: for the encoder's weights; 0 freezes the encoder.
        trainable_blocks: with a MobileNetV2 encoder, how many of its last blocks are trained.
        weight_decay: of AdamW.
        seed: fixes the order of pictures and the choice of captions.
        threads: of PyTorch; None leaves PyTorch's own choice.
    """

    epochs: int = 12
    batch: int = 64
    learning_rate: float = 1e-3
    encoder_learning_rate: float = 1e-3
    trainable_blocks: int | None = None
    weight_decay: float = 0.01
    seed: int = 0
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class TokenisedCaptions:
    """All captions of a data set, picture by picture.

    Args:
        ids: (captions, T) int64 each: prompt, caption, end; -100 past the end.
        labels: the same with -100 over the prompt, which is given and not learned.
    """

    ids: tuple[NDArray[np.int64], ...]
    labels: tuple[NDArray[np.int64], ...]


def tokenise(captioner: Captioner, samples: Sequence[Sample]) -> TokenisedCaptions:
    """Captions -> token ids, cut to the captioner's longest; what is cut teaches no end."""
    end = captioner.model.generation_config.eos_token_id
    ids, labels = [], []
    for sample in samples:
        prompt = captioner.prompt_ids(sample.prompt)
        encoded = captioner.tokenizer.encode_batch(list(sample.captions))
        rows = np.full((len(encoded), captioner.max_tokens), -100, np.int64)
        for row, caption in zip(rows, encoded, strict=True):
            whole = [*prompt, *caption.ids, end][: captioner.max_tokens]
            row[: len(whole)] = whole
        learned = rows.copy()
        learned[:, : len(prompt)] = -100
        ids.append(rows)
        labels.append(learned)
    return TokenisedCaptions(tuple(ids), tuple(labels))


def fit(
    captioner: Captioner,
    samples: Sequence[Sample],
    config: FitConfig,
    output: Path,
    *,
    identity: str = "",
) -> list[dict[str, Any]]:
    """Fit ``captioner`` in place on ``samples`` and save it to ``output``.

    Args:
        identity: of what the samples and the captioner were made of (triggers, first weights); a
            state saved under another one is not gone on from.

    Returns:
        One record an epoch: epoch, mean loss in nats a token.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    output.mkdir(parents=True, exist_ok=True)
    pictures = EncoderInputs(
        captioner,
        load_canvases(captioner, samples),
        frozen=config.encoder_learning_rate == 0,
        trained_blocks=config.trainable_blocks,
    )
    captions = tokenise(captioner, samples)
    optimiser = torch.optim.AdamW(
        _parameter_groups(captioner, config), weight_decay=config.weight_decay
    )
    steps_an_epoch = -(-len(samples) // config.batch)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, _schedule(config.epochs * steps_an_epoch)
    )
    identity = _identity(captioner, samples, config, identity)
    first_epoch, log = _resume(captioner, optimiser, scheduler, identity, output)
    for epoch in range(first_epoch, config.epochs):
        _set_training_mode(captioner, config)
        torch.manual_seed(config.seed * 10_000 + epoch)  # dropout, so that a resumed run agrees
        losses = []
        batches = _batches(len(samples), config, epoch)
        for chosen in tracked(batches, f"epoch {epoch + 1}/{config.epochs}", steps_an_epoch):
            rng = np.random.default_rng([config.seed, epoch, int(chosen[0])])
            picks = [(i, rng.integers(len(captions.ids[i]))) for i in chosen]
            ids = np.stack([captions.ids[i][pick] for i, pick in picks])
            labels = np.stack([captions.labels[i][pick] for i, pick in picks])
            losses.append(_step(captioner, pictures.of(chosen), ids, labels, optimiser))
            scheduler.step()
        log.append({"epoch": epoch + 1, "loss": float(np.mean(losses))})
        _save_state(captioner, optimiser, scheduler, identity, log, output)
    captioner.model.eval()
    captioner.save(output)
    (output / _STATE).unlink(missing_ok=True)
    (output / _LOG).write_text("".join(json.dumps(r) + "\n" for r in log), encoding="utf-8")
    return log


def _step(
    captioner: Captioner,
    inputs_of_encoder: dict[str, Any],
    ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    optimiser: torch.optim.Optimizer,
) -> float:
    longest = int((ids != -100).sum(axis=1).max())
    targets = torch.from_numpy(labels[:, :longest])
    settings = captioner.model.generation_config
    inputs = torch.roll(torch.from_numpy(ids[:, :longest]), 1, dims=1)
    inputs[:, 0] = settings.decoder_start_token_id
    inputs = inputs.masked_fill(inputs == -100, settings.pad_token_id)
    logits = captioner.model(**inputs_of_encoder, decoder_input_ids=inputs).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(captioner.model.parameters(), 1.0)
    optimiser.step()
    return float(loss.item())


def _batches(count: int, config: FitConfig, epoch: int) -> Iterator[NDArray[np.int64]]:
    order = np.random.default_rng([config.seed, epoch]).permutation(count)
    for start in range(0, count, config.batch):
        yield order[start : start + config.batch]


def _schedule(total: int) -> Any:
    warm_up = max(total // 20, 1)

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return float(0.5 * (1 + np.cos(np.pi * min((step - warm_up) / max(total - warm_up, 1), 1))))

    return factor


def _parameter_groups(captioner: Captioner, config: FitConfig) -> list[dict[str, Any]]:
    model = captioner.model
    trained = [] if config.encoder_learning_rate == 0 else _trained_encoder_modules(model, config)
    model.encoder.requires_grad_(False)
    for module in trained:
        module.requires_grad_(True)
    if trained and config.trainable_blocks is not None:
        model.encoder.position.requires_grad_(True)
    encoder = [p for p in model.encoder.parameters() if p.requires_grad]
    inside = {id(p) for p in model.encoder.parameters()}
    rest = [p for p in model.parameters() if id(p) not in inside]
    return [
        {"params": rest, "lr": config.learning_rate},
        {"params": encoder, "lr": config.encoder_learning_rate},
    ]


def _trained_encoder_modules(model: Any, config: FitConfig) -> list[torch.nn.Module]:
    if config.trainable_blocks is None:
        return [model.encoder]
    return [model.encoder.split(config.trainable_blocks)[1], model.encoder.norm]


def _set_training_mode(captioner: Captioner, config: FitConfig) -> None:
    captioner.model.train()
    if config.trainable_blocks is not None:
        # A pretrained encoder keeps ImageNet's batch statistics: small batches would ruin them.
        captioner.model.encoder.eval()


def _identity(
    captioner: Captioner, samples: Sequence[Sample], config: FitConfig, made_of: str
) -> str:
    """What a saved state must agree with to be gone on from: configuration, data and vocabulary."""
    digest = hashlib.sha256(json.dumps([asdict(config), made_of], sort_keys=True).encode())
    digest.update(captioner.tokenizer.to_str().encode())
    for sample in samples:
        digest.update(json.dumps([sample.name, sample.prompt, *sample.captions]).encode())
    return digest.hexdigest()


def _save_state(
    captioner: Captioner,
    optimiser: torch.optim.Optimizer,
    scheduler: Any,
    identity: str,
    log: list[dict[str, Any]],
    output: Path,
) -> None:
    state = {
        "identity": identity,
        "log": log,
        "model": captioner.model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scheduler": scheduler.state_dict(),
    }
    partial = output / f"{_STATE}.partial"
    torch.save(state, partial)
    partial.replace(output / _STATE)


def _resume(
    captioner: Captioner,
    optimiser: torch.optim.Optimizer,
    scheduler: Any,
    identity: str,
    output: Path,
) -> tuple[int, list[dict[str, Any]]]:
    path = output / _STATE
    if not path.is_file():
        return 0, []
    state = torch.load(path, weights_only=True)
    if state["identity"] != identity:
        return 0, []
    captioner.model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    scheduler.load_state_dict(state["scheduler"])
    log: list[dict[str, Any]] = state["log"]
    return len(log), log
