"""What a caption is checked with on the device: a language model, and perhaps another captioner.

Both belong to the policy's checkpoint, from which `srd-edge export` takes them. Neither may have
seen what the suspect was trained on: they are fitted on captions and pictures that are trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from srd_edge.attacks.captioner import Captioner, load_captioner
from srd_edge.training.language import LanguageModel, load_language_model

_LANGUAGE: Final = "language"
_REFERENCE: Final = "reference"


@dataclass(frozen=True, slots=True)
class CheckModels:
    """The models of the check.

    Args:
        language: a causal language model with a fast tokenizer.
        reference: a captioner that shares neither weights nor training data with the suspect.
    """

    language: LanguageModel
    reference: Captioner | None

    def save(self, directory: Path) -> None:
        """Write the models; `load_check_models` reads them."""
        self.language.model.save_pretrained(directory / _LANGUAGE)
        self.language.tokenizer.save_pretrained(directory / _LANGUAGE)
        if self.reference is not None:
            self.reference.save(directory / _REFERENCE)


def load_check_models(directory: Path) -> CheckModels | None:
    """Read what ``CheckModels.save`` wrote; None where there is nothing.

    Raises:
        UsageError: for models that cannot be read.
    """
    if not (directory / _LANGUAGE).is_dir():
        return None
    place = reference_folder(directory)
    return CheckModels(
        load_language_model(directory / _LANGUAGE),
        None if place is None else load_captioner(place),
    )


def reference_folder(directory: Path) -> Path | None:
    """Where the reference captioner of a check lies; None where it has none."""
    place = directory / _REFERENCE
    return place if place.is_dir() else None
