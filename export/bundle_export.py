"""``srd-edge export``: a captioner and a policy become a bundle that a device can trust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

import torch

import srd_edge
from srd_edge.attacks.samples import Sample
from srd_edge.attacks.victims import known_attacks
from srd_edge.errors import RunError, UsageError
from srd_edge.export.check import (
    LANGUAGE_STEM,
    LANGUAGE_TOKENIZER,
    check_spec,
    language_component,
    language_tokenizer,
)
from srd_edge.export.component import Component
from srd_edge.export.families.cache import with_fixed_cache
from srd_edge.export.graph_files import (
    file_name,
    packed,
    weight_bytes,
    work_folder,
    write_graph,
    write_graphs,
)
from srd_edge.export.graphs import OPSET, Precision
from srd_edge.export.limits import with_limits
from srd_edge.export.parity import ask_pytorch, check_fp32, measure_parity
from srd_edge.export.source import Source, open_source
from srd_edge.export.targets import check_graphs, check_precision, on_gpu
from srd_edge.kernels.actions import DEFAULT_TABLE
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.runtime.bundle import Bundle, write_bundle
from srd_edge.runtime.bundle_specs import (
    TOKENIZER_FILE,
    Cache,
    ObservationSpec,
    PolicySpec,
)
from srd_edge.runtime.check_specs import REFERENCE_FOLDER
from srd_edge.runtime.manifest import Manifest
from srd_edge.training.check_models import CheckModels, reference_folder
from srd_edge.training.checkpoints import CHECK_FOLDER, PolicyCheckpoint, load_policy

_CALIBRATION_PICTURES: Final = 64
_PARITY_PICTURES: Final = 32
_VERSIONS_OF: Final = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "numpy")


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What is exported.

    Args:
        captioner: a directory or hub name.
        output: the bundle's directory.
        policy: the policy's directory; None makes an undefended bundle.
        precision: fp32, fp16, int8 or int4.
        target: the kind of device it is for; "" for any. See `export/targets.py`.
        overwrite: whether a bundle that is already there is replaced.
        prompt: words for the captioner, as its family takes them.
        beams, max_new_tokens: None for the model's own generation settings.
        max_pixels: of a canvas that follows the picture; None for the captioner's own bound.
    """

    captioner: str
    output: Path
    policy: Path | None = None
    precision: Precision = "fp32"
    target: str = ""
    overwrite: bool = False
    prompt: str = ""
    beams: int | None = None
    max_new_tokens: int | None = None
    max_pixels: int | None = None

    def to_json(self) -> dict[str, Any]:
        names = {"output": self.output.name, "policy": self.policy and self.policy.name}
        return asdict(self) | names


def export_bundle(
    config: ExportConfig, samples: Sequence[Sample], report: Callable[[str], None] = print
) -> Bundle:
    """Export, quantise, compare with PyTorch and write the bundle; a failure leaves nothing.

    Args:
        config: what to export.
        samples: pictures for calibration and parity, of the kind that the device will see.
        report: told one line a component.

    Raises:
        RunError: an fp32 export that does not say what PyTorch says.
        UsageError: a captioner or policy that cannot be exported, or too few pictures.
    """
    _check_request(config, samples)
    source = open_source(
        config.captioner,
        prompt=config.prompt,
        beams=config.beams,
        max_new_tokens=config.max_new_tokens,
        max_pixels=config.max_pixels,
    )
    captioner = source.captioner
    parts = source.components()
    cache: Cache = "growing"
    if on_gpu(config.target) and (fixed := with_fixed_cache(parts["decoder"])) is not None:
        parts["decoder"], cache = fixed, "fixed"
    policy = load_policy(config.policy) if config.policy else None
    observation = _observation(source, parts)
    if policy is not None:
        _check_match(policy, source, observation)
    pictures = samples[: _CALIBRATION_PICTURES + _PARITY_PICTURES]
    canvases = [to_canvas(sample.load(), captioner.preprocessing) for sample in pictures]
    calibration, unseen = canvases[:-_PARITY_PICTURES], canvases[-_PARITY_PICTURES:]
    truth = ask_pytorch(source, parts, unseen)
    with work_folder(config.output, weight_bytes(parts)) as work:
        files: dict[str, bytes | Path] = {
            TOKENIZER_FILE: captioner.tokenizer.to_str().encode(),
            **write_graphs(source, parts, policy, config.precision, calibration, work, report),
        }
        if policy is not None and policy.check is not None:
            files |= _write_check(config, policy.check, samples, work, report)
        any_size = captioner.preprocessing.tiling is not None
        target = check_graphs(config.target, files, report, any_size=any_size)
        manifest = _manifest(config, source, parts, policy, observation, target)
        manifest = replace(manifest, captioner=replace(manifest.captioner, cache=cache))
        del source, captioner, parts  # a second copy of the weights is opened now
        trial = write_bundle(work / "trial", manifest, files, move=True)
        references = [sample.captions for sample in pictures[-_PARITY_PICTURES:]]
        parity = measure_parity(trial, truth, policy, unseen, references)
        report(
            f"parity: {parity['captions_equal']:.0%} of {parity['captions']} captions and "
            f"{parity['tokens_equal']:.1%} of tokens as in PyTorch; CIDEr-D {parity['cider_d']:.2f}"
            f" of {parity['cider_d_pytorch']:.2f}"
        )
        problems = check_fp32(parity) if config.precision == "fp32" else []
        if problems:
            raise RunError(
                expected="an export that says what PyTorch says",
                found="; ".join(problems),
                do="report it with the captioner's configuration; nothing was written",
            )
        manifest = replace(trial.manifest, parity=parity, files=())
        if policy is not None:
            manifest = replace(with_limits(trial, samples), parity=parity, files=())
        kept = {entry.path: trial.path(entry.path) for entry in trial.manifest.files}
        return write_bundle(config.output, manifest, kept, overwrite=config.overwrite, move=True)


def _check_request(config: ExportConfig, samples: Sequence[Sample]) -> None:
    if config.precision not in get_args(Precision):
        raise UsageError(
            expected=f"a precision out of {', '.join(get_args(Precision))}",
            found=repr(config.precision),
            do="choose one of them",
        )
    check_precision(config.target, config.precision)
    if config.output.exists() and not config.overwrite:
        raise UsageError(
            expected="a bundle's directory that does not exist yet",
            found=str(config.output),
            do="choose another with -o, or add --overwrite",
        )
    if len(samples) < 2 * _PARITY_PICTURES:
        raise UsageError(
            expected=f"at least {2 * _PARITY_PICTURES} pictures for calibration and parity",
            found=str(len(samples)),
            do="give a larger data set with --data",
        )


def _check_match(
    policy: PolicyCheckpoint, source: Source, observation: ObservationSpec | None
) -> None:
    if observation is None:
        raise UsageError(
            expected="a captioner whose pictures are all of one size, which a policy needs",
            found=f"{source.name}, which looks at pictures of any size",
            do="export it without --policy",
        )
    made_for = policy.network.config
    expected = observation.rows, observation.columns, observation.channels
    found = made_for.rows, made_for.columns, made_for.channels
    if found != expected:
        raise UsageError(
            expected="a policy for features of {} x {} cells and {} channels".format(*expected),
            found="one for {} x {} cells and {} channels".format(*found),
            do="train a policy on this captioner with `srd-edge train`",
        )
    trained_on = policy.provenance.get("captioner")
    if trained_on not in (None, source.captioner.fingerprint()):
        raise UsageError(
            expected="the captioner that the policy was trained on",
            found="another one, or the same one fitted further",
            do="train a policy on this captioner with `srd-edge train`",
        )


def _write_check(
    config: ExportConfig,
    check: CheckModels,
    samples: Sequence[Sample],
    work: Path,
    report: Callable[[str], None],
) -> dict[str, bytes | Path]:
    """The language model's files, and the reference captioner's own bundle in its folder."""
    component = language_component(check.language)
    path = write_graph("language", component, config.precision, None, work, report)
    outside = packed({path.name: path}, work / f"{LANGUAGE_STEM}.onnx_data", report)
    files: dict[str, bytes | Path] = {
        path.name: path,
        LANGUAGE_TOKENIZER: language_tokenizer(check.language),
        **outside,
    }
    if check.reference is not None:
        assert config.policy is not None
        source = reference_folder(config.policy / CHECK_FOLDER)
        own = ExportConfig(str(source), work / REFERENCE_FOLDER, precision=config.precision)
        inner = export_bundle(own, samples, lambda line: report(f"reference {line}"))
        for inside in sorted(inner.directory.iterdir()):
            files[f"{REFERENCE_FOLDER}/{inside.name}"] = inside
    return files


def _manifest(
    config: ExportConfig,
    source: Source,
    parts: dict[str, Component],
    policy: PolicyCheckpoint | None,
    observation: ObservationSpec | None,
    target: dict[str, Any] | None,
) -> Manifest:
    captioner = source.captioner
    files = {name: file_name(part.file_stem, config.precision) for name, part in parts.items()}
    return Manifest(
        captioner=source.spec(files),
        preprocessing=captioner.preprocessing,
        generation=source.generation,
        actions=policy.network.table if policy else DEFAULT_TABLE,
        observation=observation,
        policy=None
        if policy is None
        else PolicySpec(file_name("policy", "fp32"), "", policy.max_steps, policy.temperature),
        check=None
        if policy is None or policy.check is None
        else check_spec(
            policy.check.language,
            file_name(LANGUAGE_STEM, config.precision),
            reference=policy.check.reference is not None,
        ),
        precision=config.precision,
        opset=OPSET,
        provenance={
            "srd_edge": srd_edge.__version__,
            "versions": {name: version(name) for name in _VERSIONS_OF},
            "export": config.to_json(),
            "target": target,
            "attacks": known_attacks(config.captioner),
            "policy": dict(policy.provenance) if policy else None,
        },
    )


def _observation(source: Source, parts: dict[str, Component]) -> ObservationSpec | None:
    """Of features that lie on the same grid whatever the picture; None of others."""
    if source.captioner.preprocessing.tiling is not None:
        return None
    rows, columns = source.family.grid(source.captioner.model, *source.size)
    look = parts["encoder"]
    with torch.inference_mode():
        features = look.module(look.inputs["pixel_values"][:1])[0]
    if features.shape[1] != rows * columns:
        raise UsageError(
            expected=f"features of {rows} x {columns} patches",
            found=f"{features.shape[1]} features",
            do="report it with the captioner's configuration",
        )
    return ObservationSpec(rows=rows, columns=columns, channels=features.shape[2])
