"""srd-edge: a suspect captioning model goes in, captions that can be trusted come out.

The public names are loaded when first used, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from srd_edge.kernels.frames import Frame as Frame
    from srd_edge.runtime.defender import Defender as Defender
    from srd_edge.runtime.records import Result as Result
    from srd_edge.runtime.watching import watch as watch

__version__ = "0.1.0"

_PUBLIC = {
    "Defender": "srd_edge.runtime.defender",
    "Frame": "srd_edge.kernels.frames",
    "Result": "srd_edge.runtime.records",
    "watch": "srd_edge.runtime.watching",
}
__all__ = ["Defender", "Frame", "Result", "__version__", "watch"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'srd_edge' has no attribute {name!r}")
