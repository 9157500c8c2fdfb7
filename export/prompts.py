"""What a captioner is given besides the picture: a question or a task, as token ids.

Shared by the families, which have a tokenizer of transformers, and by directories of ONNX graphs,
which have a ``tokenizer.json``. Needs neither PyTorch nor transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from srd_edge.errors import UsageError
from srd_edge.runtime.bundle_specs import TileIds

Words: TypeAlias = Callable[[str], Sequence[int]]
"""A text's ids, no special tokens added."""
QUESTION: Final = "Write a short caption for this image."
"""What a chat model is asked where nothing else is."""
CONVERSATIONS: Final[Mapping[str, str]] = {
    "llava": "USER: {image}\n{text} ASSISTANT:",
    "llava-onevision": "<|im_start|>user {image}\n{text}<|im_end|><|im_start|>assistant\n",
    "smolvlm": "<|im_start|>User:{image}{text}<end_of_utterance>\nAssistant:",
    "qwen-vl": (
        "<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{text}<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
}
"""By family, the conversation where a model has no chat template."""
_TASK: Final = "caption en"
_MOST_LINES: Final = 6
"""Of tiles, and of tiles in a line: what SmolVLM and Idefics3 have words for."""
_FAKE: Final = "<fake_token_around_image>"
_WHOLE: Final = "<global-img>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The token ids that a captioner is given besides the picture.

    Args:
        ids: what the decoder reads first, after the picture where there is a prefix.
        before, after: around the picture, in a prefix.
        tiles: among its tiles, if it has any.
        built_in: what a text encoder reads, as constants of the encoder's graph.
        question: what a Q-Former reads, likewise.
    """

    ids: tuple[int, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    tiles: TileIds | None = None
    built_in: tuple[int, ...] = ()
    question: tuple[int, ...] = ()

    @property
    def in_the_graphs(self) -> bool:
        """Whether another prompt needs another export."""
        return bool(self.built_in or self.question)


def messages(question: str) -> list[dict[str, Any]]:
    """A conversation of one picture and a question, as chat templates read it."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return [{"role": "user", "content": content}]


def around_picture(ids: Sequence[int], image_token: int, said: str) -> Prompt:
    """The prompt of a conversation with one place for the picture.

    Args:
        ids: of all of it.
        image_token: the id that stands for the picture.
        said: the conversation in words, for the message.

    Raises:
        UsageError: no such place, or several.
    """
    places = [at for at, token in enumerate(ids) if token == image_token]
    if len(places) != 1:
        raise UsageError(
            expected=f"a chat template with one place for a picture (token {image_token})",
            found=f"{len(places)} in {said[:200]!r}",
            do="correct the model's chat template",
        )
    (at,) = places
    return Prompt(before=tuple(ids[:at]), after=tuple(ids[at + 1 :]))


def among_tiles(prompt: Prompt, words: Words) -> Prompt:
    """``prompt`` with what SmolVLM and Idefics3 have among the tiles of the picture."""

    def ids(text: str) -> tuple[int, ...]:
        return tuple(words(text))

    numbers = range(1, _MOST_LINES + 1)
    tiles = TileIds(
        cells=tuple(
            tuple(ids(f"{_FAKE}<row_{row}_col_{column}>") for column in numbers) for row in numbers
        ),
        between_lines=ids("\n"),
        whole=ids(f"\n\n{_FAKE}{_WHOLE}"),
        alone=ids(f"{_FAKE}{_WHOLE}"),
    )
    return replace(prompt, after=(*ids(_FAKE), *prompt.after), tiles=tiles)


def task_prompt(text: str, start: int, words: Words) -> Prompt:
    """PaliGemma's: the picture, a start token, then the task and the end of its line.

    Args:
        text: the task; "" for a caption in English.
        start: the id that begins a text.
        words: the tokenizer.
    """
    return Prompt(after=(start, *words(f"{text or _TASK}\n")))
