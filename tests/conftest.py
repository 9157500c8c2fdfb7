from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of the optional development data (flickr8k, videos, weights).

    It is ``data`` in the folder that SRD_EDGE_SHARED names, by default ``shared`` beside the
    checkout. Tests that need it are skipped where there is none.
    """
    folder = Path(os.environ.get("SRD_EDGE_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data: no folder {folder} (set SRD_EDGE_SHARED)")
    return folder
