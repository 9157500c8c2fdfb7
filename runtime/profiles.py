"""Between which lengths a bundle's graphs are run, as TensorRT wants to know before it builds.

An engine is built for a range of shapes, and fastest at one of them. A shape outside of the range
would be a build in mid-stream, of half a minute or more. Axes have the names that the exporter
gives them (`export/component.py`); how far each goes follows from the manifest: beams, prompt, the
longest caption, the features of a picture.

A past of length 0, as a decoder with a growing cache begins with, is in no profile: ranges of
``past`` begin at 1, and a graph that is fed an empty past is not to be run by an engine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from srd_edge.errors import BundleError
from srd_edge.runtime.bundle_specs import PREFIX_KINDS, CaptionerSpec
from srd_edge.runtime.check_specs import LanguageSpec
from srd_edge.runtime.generation_specs import GenerationDefaults
from srd_edge.runtime.graph_header import GraphValue
from srd_edge.runtime.prefixes import cache_room

PAST: Final = "past"
"""The one axis that may have length 0."""
CAPACITY: Final = "capacity"
"""Of a cache of fixed size, in positions."""
Dims: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """How long an axis may be, and how long it usually is; 1 <= least <= usual <= most."""

    least: int
    usual: int
    most: int

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.usual <= self.most:
            raise ValueError(f"no range: {self.least}, {self.usual}, {self.most}")


Ranges: TypeAlias = Mapping[str, Range]


@dataclass(frozen=True, slots=True)
class InputShapes:
    """The least, usual and largest shape of one input with a dynamic axis."""

    name: str
    least: Dims
    usual: Dims
    most: Dims


Profile: TypeAlias = tuple[InputShapes, ...]
"""Of every input of a graph that has a dynamic axis; empty where none has."""


def captioner_ranges(
    spec: CaptionerSpec,
    generation: GenerationDefaults,
    component: str,
    features: int,
    views: int = 1,
) -> Ranges:
    """How far the axes of one of a captioner's graphs go.

    Args:
        spec: of the captioner.
        generation: how it captions.
        component: encoder, embed_tokens or decoder.
        features: how many of a picture the decoder reads; see ``picture_features``.
        views: of a picture that are captioned as one.
    """
    if component == "encoder":
        return {"batch": Range(1, views, views)}
    rows = generation.beams * views
    around = len(spec.before) + len(spec.after)
    head = around + features if spec.decoding in PREFIX_KINDS else 0
    # The last token of a caption is not read; a whole caption may be, to ask how likely it is.
    words = max(len(generation.prompt) + generation.max_new_tokens - 1, 1)
    ranges = {"batch": Range(1, rows, rows), "sequence": Range(1, 1, max(words, around))}
    if component == "embed_tokens":
        return ranges
    if spec.cache == "fixed":
        room = cache_room(head, generation)
        ranges |= {CAPACITY: Range(room, room, room)}
    else:
        ranges |= _past(head, words)
    if spec.decoding == "cross-attention":
        return ranges | {"picture": Range(features, features, features)}
    return ranges | {"sequence": Range(1, 1, max(head, words)), "kept": Range(1, 1, words)}


def policy_ranges() -> Ranges:
    """The Q-network looks at one picture at a time."""
    return {"batch": Range(1, 1, 1)}


def language_ranges(language: LanguageSpec, longest_caption: int) -> Ranges:
    """A start token and one more, up to the longest row; usually a caption between two tokens."""
    usual = min(longest_caption + 2, language.max_tokens)
    return {"batch": Range(1, 1, 1), "tokens": Range(2, max(usual, 2), language.max_tokens)}


def picture_features(spec: CaptionerSpec, encoder_outputs: Sequence[GraphValue]) -> int:
    """How many features of a picture the decoder reads, from the encoder's output shapes.

    Raises:
        BundleError: the encoder has no such output, or not of a fixed length.
    """
    wanted = spec.memory_names[0]
    axis = 1 if spec.decoding in PREFIX_KINDS else 2
    found = next((value.dims for value in encoder_outputs if value.name == wanted), ())
    length = found[axis] if len(found) > axis else None
    if not isinstance(length, int) or length < 1:
        raise BundleError(
            expected=f"an encoder output {wanted} with a fixed number of features",
            found=f"dimensions {list(found)}",
            do="export the bundle again",
        )
    return length


def profile(inputs: Sequence[GraphValue], ranges: Ranges) -> Profile:
    """The shapes of all inputs with a dynamic axis.

    Raises:
        BundleError: an axis that ``ranges`` does not name.
    """
    return tuple(
        InputShapes(
            value.name,
            *(
                tuple(_length(value, dim, ranges, end) for dim in value.dims)
                for end in ("least", "usual", "most")
            ),
        )
        for value in inputs
        if any(isinstance(dim, str) for dim in value.dims)
    )


def may_be_empty(inputs: Sequence[GraphValue]) -> bool:
    """Whether an input of the graph has the one axis that may have length 0."""
    return any(PAST in value.dims for value in inputs)


def profile_options(shapes: Profile) -> dict[str, str]:
    """onnxruntime's three options for ``shapes``; none for a graph without dynamic axes.

    A malformed one is ignored by onnxruntime with a warning, and shapes are then learned by
    building again and again; hence names that would break its syntax are an error.

    Raises:
        BundleError: an input whose name has a colon or a comma in it.
    """
    for shape in shapes:
        if set(":,") & set(shape.name):
            raise BundleError(
                expected="inputs without a colon or comma in their names",
                found=repr(shape.name),
                do="export the bundle again",
            )
    if not shapes:
        return {}
    return {
        "trt_profile_min_shapes": ",".join(_written(s.name, s.least) for s in shapes),
        "trt_profile_opt_shapes": ",".join(_written(s.name, s.usual) for s in shapes),
        "trt_profile_max_shapes": ",".join(_written(s.name, s.most) for s in shapes),
    }


def warm_up_shapes(shapes: Profile) -> list[dict[str, Dims]]:
    """Shapes to run a graph at before the first frame, so that none of them is met first there.

    The usual and the largest shape of every dynamic input; once, where they are the same.
    """
    usual = {shape.name: shape.usual for shape in shapes}
    most = {shape.name: shape.most for shape in shapes}
    return [usual] if usual == most else [usual, most]


def _past(head: int, words: int) -> dict[str, Range]:
    """Usually half of the caption is there; before the last token is read, all but that one."""
    most = max(head + words - 1, 1)
    return {PAST: Range(1, min(max(head + words // 2, 1), most), most)}


def _length(value: GraphValue, dim: int | str, ranges: Ranges, end: str) -> int:
    if isinstance(dim, int):
        return dim
    if dim not in ranges:
        raise BundleError(
            expected=f"axes out of {', '.join(sorted(ranges))} in the input {value.name}",
            found=repr(dim),
            do="export the bundle again, with the srd-edge that is to run it",
        )
    length: int = getattr(ranges[dim], end)
    return length


def _written(name: str, dims: Dims) -> str:
    return f"{name}:{'x'.join(map(str, dims))}"
