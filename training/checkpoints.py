"""A policy on disk: ``policy.json`` says what it is, ``policy.safetensors`` holds its weights.

The models that check captions lie beside them, in ``check/``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from srd_edge.errors import UsageError
from srd_edge.kernels.actions import ActionTable
from srd_edge.training.check_models import CheckModels, load_check_models
from srd_edge.training.qnetwork import QNetwork, QNetworkConfig

_DESCRIPTION: Final = "policy.json"
_WEIGHTS: Final = "policy.safetensors"
CHECK_FOLDER: Final = "check"


@dataclass(frozen=True, slots=True)
class PolicyCheckpoint:
    """A trained Q-network and how it is to be used.

    Args:
        network: carries its action table and its shapes.
        max_steps: most perturbations laid over one frame.
        temperature: of the logistic function that turns Q-values into suspicion.
        provenance: the training's configuration and what came of it.
        check: the models that captions are checked with; None leaves them unchecked.
    """

    network: QNetwork
    max_steps: int
    temperature: float
    provenance: Mapping[str, Any]
    check: CheckModels | None = None

    def save(self, directory: Path) -> None:
        """Write everything; the description last, so that half a policy is none."""
        directory.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(directory / CHECK_FOLDER, ignore_errors=True)
        if self.check is not None:
            self.check.save(directory / CHECK_FOLDER)
        save_file(self.network.state_dict(), directory / _WEIGHTS)
        description = {
            "network": self.network.config.to_json(),
            "actions": self.network.table.to_json(),
            "max_steps": self.max_steps,
            "temperature": self.temperature,
            "provenance": dict(self.provenance),
        }
        text = json.dumps(description, indent=2)
        (directory / _DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def load_policy(directory: Path) -> PolicyCheckpoint:
    """Read what ``PolicyCheckpoint.save`` wrote.

    Raises:
        UsageError: when it is not there or does not fit together.
    """
    try:
        data = json.loads((directory / _DESCRIPTION).read_text(encoding="utf-8"))
        table = ActionTable.from_json(data["actions"])
        network = QNetwork(QNetworkConfig(**data["network"]), table)
        network.load_state_dict(load_file(directory / _WEIGHTS))
        return PolicyCheckpoint(
            network.eval(),
            int(data["max_steps"]),
            float(data["temperature"]),
            data["provenance"],
            load_check_models(directory / CHECK_FOLDER),
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise UsageError(
            expected=f"a policy in {directory} ({_DESCRIPTION}, {_WEIGHTS})",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            do="train one with `srd-edge train`",
        ) from error
