"""A model's name is looked at before it is loaded: a mistyped one is told at once, in one line.

transformers takes a name that is no directory for one on the hub, and where the hub cannot be
reached it tries for half a minute, with a line for each attempt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from srd_edge.errors import UsageError

_ASKED_FOR: Final = "config.json"


def check_model_name(name: str | Path) -> None:
    """Return if ``name`` is a directory, or on the hub, or kept from there.

    Raises:
        UsageError: if it is none of them, or the hub does not answer.
    """
    if Path(name).is_dir():
        return
    try:
        if isinstance(try_to_load_from_cache(str(name), _ASKED_FOR), str):
            return
        get_hf_file_metadata(hf_hub_url(str(name), _ASKED_FOR))
    except HFValidationError:
        reason = "nor can it be a name on the hub"
    except HfHubHTTPError as error:
        hub = constants.ENDPOINT
        reason = f"and {hub} has no such model to read (HTTP {error.response.status_code})"
    except Exception as error:  # of whatever carries requests
        words = " ".join(str(error).split()) or type(error).__name__
        reason = f"and {constants.ENDPOINT}, where it may be a model, cannot be reached ({words})"
    else:
        return
    raise UsageError(
        expected="a model's directory, or its name on the hub",
        found=f"no directory '{name}', {reason}",
        do="check the spelling and the working directory",
    )
