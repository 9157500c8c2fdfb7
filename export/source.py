"""The captioner that is exported: read by its name, whatever its family."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer
from transformers.utils import cached_file

from srd_edge.attacks.captioner import Captioner
from srd_edge.attacks.model_names import check_model_name
from srd_edge.errors import UsageError
from srd_edge.export.component import Component
from srd_edge.export.families import family_of
from srd_edge.export.families.family import Family
from srd_edge.export.generation import generation_defaults
from srd_edge.export.prompts import Prompt
from srd_edge.runtime.bundle_specs import CaptionerSpec
from srd_edge.runtime.generation_specs import GenerationDefaults


@dataclass(frozen=True, slots=True)
class Source:
    """A captioner and what its family knows about it.

    Args:
        name: the directory or hub name that it came from.
        captioner: model, tokenizer, preprocessing.
        family: how it is exported.
        prompt: the ids that it is given besides a picture.
        generation: how the bundle is to decode.
    """

    name: str
    captioner: Captioner
    family: Family
    prompt: Prompt
    generation: GenerationDefaults

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its canvas, or of a tile."""
        spec = self.captioner.preprocessing
        return spec.height, spec.width

    def components(self) -> dict[str, Component]:
        """The graphs that are to be exported."""
        return self.family.components(self.captioner.model, self.prompt, *self.size)

    def spec(self, files: dict[str, str]) -> CaptionerSpec:
        """The manifest's description of the captioner, whose graphs are ``files``."""
        return self.family.prompted(self.captioner.model, self.prompt, files)


def open_source(
    name: str | Path,
    *,
    prompt: str = "",
    beams: int | None = None,
    max_new_tokens: int | None = None,
    max_pixels: int | None = None,
) -> Source:
    """Read a captioner from a directory or a hub name.

    Weights are read from safetensors only, all of them must be there, and no remote code is run.

    Args:
        name: where it is.
        prompt: words that the family puts before the caption, or asks; "" for its own.
        beams, max_new_tokens: in place of the model's own generation settings.
        max_pixels: of a canvas that follows the picture; None for as many as the model's own.

    Raises:
        UsageError: when there is no such model, or it cannot be exported.
    """
    check_model_name(name)
    safely = {"trust_remote_code": False}
    try:
        family = family_of(_model_type(name), str(name))
        model, loaded = AutoModelForImageTextToText.from_pretrained(
            name,
            use_safetensors=True,
            output_loading_info=True,
            # Its graphs are a fifth smaller, without a branch for rows that see nothing.
            attn_implementation="eager",
            # Published in half precision or not: what an export has is --precision's to say.
            dtype=torch.float32,
            **safely,
        )
        tokenizer = AutoTokenizer.from_pretrained(name, **safely)
        image_processor = AutoImageProcessor.from_pretrained(name, **safely)
    except UsageError:
        raise
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UsageError(
            expected="a captioner's directory or hub name, with weights in safetensors",
            found=f"{name}: {' '.join(str(error).split())[:300]}",
            do="check the name, or train one with `srd-edge attack --captioner tiny`",
        ) from error
    # Poolers are for classification; nothing of a captioner goes through them.
    missing = sorted(key for key in loaded["missing_keys"] if ".pooler." not in key)
    if missing:
        raise UsageError(
            expected=f"all weights of a {family.name} captioner in {name}",
            found=f"{len(missing)} missing, {missing[0]} among them",
            do="fetch the checkpoint again",
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError(
            expected=f"a tokenizer.json in {name}",
            found=type(tokenizer).__name__,
            do="convert its tokenizer with transformers first",
        )
    given = family.prompt(model, tokenizer, prompt)
    preprocessing = family.preprocessing(model, image_processor)
    if max_pixels is not None:
        preprocessing = family.bounded(model, preprocessing, max_pixels)
    captioner = Captioner(model.eval(), backend, preprocessing)
    defaults = generation_defaults(
        family.settings(model).to_dict(),
        given.ids,
        family.end_tokens(model),
        around=len(given.before) + len(given.after),
        beams=beams,
        max_new_tokens=max_new_tokens,
    )
    return Source(str(name), captioner, family, given, defaults)


def _model_type(name: str | Path) -> str:
    """As the configuration has it, of a type that transformers does not know too."""
    path = cached_file(name, "config.json")
    if path is None:
        raise OSError("no config.json")
    return str(json.loads(Path(path).read_text(encoding="utf-8")).get("model_type", "unknown"))
