"""The bundle's reference captioner: fitted on trusted pictures, so that it shares no backdoor."""

from __future__ import annotations

from collections.abc import Callable

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.kernels.views import views
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import CrossAttentionCaptioner, Encoded, Generated
from srd_edge.runtime.check_specs import REFERENCE_FOLDER
from srd_edge.runtime.sessions import Provider


class ReferenceCaptioner:
    """Says how likely a caption is, and captions by itself.

    Args:
        bundle: a verified bundle that holds one.
        provider, strict: execution provider of its graphs.
    """

    def __init__(
        self, bundle: Bundle, provider: Provider = "auto", *, strict: bool = False
    ) -> None:
        own = read_bundle(bundle.directory / REFERENCE_FOLDER)
        self._preprocessing = own.manifest.preprocessing
        self._captioner = CrossAttentionCaptioner(own, provider, strict=strict)

    def canvas(self, frame: Frame) -> Pixels:
        """The frame at its own size: (height, width, 3) uint8 RGB."""
        return to_canvas(frame.pixels, self._preprocessing)

    def encode(self, canvas: Pixels) -> Encoded:
        """The canvas, for ``log_probability``."""
        return self._captioner.encode(canvas)

    def log_probability(self, encoded: Encoded, text: str, *, finished: bool) -> float:
        """As ``CrossAttentionCaptioner.log_probability``."""
        return self._captioner.log_probability(encoded, text, finished=finished)

    def answer(
        self,
        canvas: Pixels,
        *,
        deadline_s: float = float("inf"),
        clock: Callable[[], float] | None = None,
    ) -> Generated:
        """Its own caption, by several views: what disturbs one disturbs the next differently.

        Args:
            canvas: from ``canvas``.
            deadline_s, clock: as in ``CrossAttentionCaptioner.generate``.
        """
        several = views(canvas, self._preprocessing.resample)
        encoded = self._captioner.encode_views(several)
        return self._captioner.generate(encoded, deadline_s=deadline_s, clock=clock)
