"""The bundle's reference captioner: fitted on trusted pictures, so that it shares no backdoor."""

from __future__ import annotations

from collections.abc import Callable

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.kernels.preprocess import to_canvas
from srd_edge.kernels.views import views
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning import Generated, OnnxCaptioner
from srd_edge.runtime.check_specs import REFERENCE_FOLDER
from srd_edge.runtime.decoders import Encoded
from srd_edge.runtime.sessions import Provider


class ReferenceCaptioner:
    """Says how likely a caption is, and captions by itself.

    Args:
        bundle: a verified bundle that holds one, and says whether it goes by several views.
        provider, strict: execution provider of its graphs.

    Attributes:
        passes: encodings that an answer takes.
    """

    def __init__(
        self, bundle: Bundle, provider: Provider = "auto", *, strict: bool = False
    ) -> None:
        own = read_bundle(bundle.directory / REFERENCE_FOLDER)
        check = bundle.manifest.check
        self.passes = 1 if check is None else check.answer_passes
        self._preprocessing = own.manifest.preprocessing
        self._captioner = OnnxCaptioner(own, provider, strict=strict, views=self.passes)

    def canvas(self, frame: Frame) -> Pixels:
        """The frame at its own size: (height, width, 3) uint8 RGB."""
        return to_canvas(frame.pixels, self._preprocessing)

    def encode(self, canvas: Pixels) -> Encoded:
        """The canvas as it is, which somebody else's caption is held against."""
        return self._captioner.encode(canvas)

    def look(self, canvas: Pixels) -> Encoded:
        """The canvas as its own caption goes by it: what disturbs one view may spare another."""
        if self.passes == 1:
            return self.encode(canvas)
        return self._captioner.encode_views(views(canvas, self._preprocessing.resample))

    def log_probability(self, encoded: Encoded, text: str, *, finished: bool = True) -> float:
        """As ``OnnxCaptioner.log_probability``."""
        return self._captioner.log_probability(encoded, text, finished=finished)

    def answer(
        self,
        canvas: Pixels,
        *,
        expired: Callable[[], bool] = lambda: False,
    ) -> Generated:
        """Its own caption.

        Args:
            canvas: from ``canvas``.
            expired: as in ``OnnxCaptioner.generate``.
        """
        return self._captioner.generate(self.look(canvas), expired=expired)
