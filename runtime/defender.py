"""The defender: the pipeline's captions, frame after frame, each inside its budget."""

from __future__ import annotations

import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

from srd_edge.kernels.frames import Frame, Pixels
from srd_edge.runtime.budget import HAND_OVER, WHOLE, Clock, FrameTimer, LatencyBudget
from srd_edge.runtime.bundle import Bundle, read_bundle
from srd_edge.runtime.captioning_process import Opening
from srd_edge.runtime.gate import ChangeGate
from srd_edge.runtime.memory import Memory
from srd_edge.runtime.on_time import OnTime, held
from srd_edge.runtime.pipeline import Choices, Pipeline
from srd_edge.runtime.policy import Policy
from srd_edge.runtime.records import Result
from srd_edge.runtime.sessions import Provider
from srd_edge.runtime.workers import AtOnce, OnProcess, Worker


class Defender:
    """Captions frames with a captioner that may be backdoored, and defends each.

    With a budget, a frame whose caption has not come by its deadline is held with the last trusted
    one; the caption that was late is then trusted for the frames after it. Frames that come while
    it is still being made are held too, and so are those that there is no room for beside others.

    Args:
        bundle: verified; see ``Defender.load`` for the usual way in.
        policy: values actions; the bundle's own Q-network by default.
        defend: False captions every frame as it is, for comparison.
        check: False leaves the captions unchecked, for comparison.
        budget: time for one frame.
        gate_level: grey levels that a part of the picture may change by while the last caption
            stands, see ``srd_edge.runtime.gate``; None captions every frame anew.
        provider, strict: the execution provider, and whether its absence is an error.
        clock: seconds, rising.
        worker: does the frames' work with the models that it is given; by default a process of its
            own where there is a budget and no other policy, and otherwise the caller.

    Raises:
        BundleError: for a bundle whose parts do not fit together.
        UsageError: for a bundle without a policy, unless ``defend`` is False.
        ProviderError: with ``strict``, when the provider is not available.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        policy: Policy | None = None,
        defend: bool = True,
        check: bool = True,
        budget: LatencyBudget | None = None,
        gate_level: float | None = None,
        provider: Provider = "auto",
        strict: bool = False,
        clock: Clock = time.perf_counter,
        worker: Callable[[Pipeline], Worker] | None = None,
    ) -> None:
        def fresh() -> Memory:
            return Memory(None if gate_level is None else ChangeGate(gate_level))

        # One at once: a level that is none is to be told before the first frame.
        self._memories = defaultdict(fresh, {0: fresh()})
        self._numbers = itertools.count(1)
        self._turns: dict[int, int] = {}  # when each source had its last: files end, these go on
        self.bundle = bundle
        self._budget = budget or LatencyBudget()
        self._clock = clock
        self._worker: Worker
        choices = Choices(defend, check, provider, strict)
        budget_ms = self._budget.frame_ms
        if worker is None and policy is None and budget_ms is not None:
            self._worker = OnProcess(Opening(bundle, budget_ms, choices))
        else:
            pipeline = Pipeline(bundle, choices, policy=policy, clock=clock)
            self._worker = (worker or AtOnce)(pipeline)
        self._on_time = OnTime(self._worker)

    @classmethod
    def load(
        cls,
        bundle: Path | str | None = None,
        *,
        budget_ms: float | None = None,
        gate_level: float | None = None,
        provider: Provider = "auto",
        strict: bool = False,
        defend: bool = True,
    ) -> Defender:
        """Open a bundle's directory (None: the built-in one), verified before anything is loaded.

        Raises:
            BundleError: a bundle that is refused.
            ProviderError: with ``strict``, when the provider is not available.
        """
        return cls(
            read_bundle(bundle),
            budget=LatencyBudget(budget_ms),
            gate_level=gate_level,
            provider=provider,
            strict=strict,
            defend=defend,
        )

    @property
    def provider(self) -> str:
        """The execution provider in use: cpu, cuda or tensorrt."""
        return self._worker.provider

    @property
    def fallback(self) -> str | None:
        """Why the provider is not the one asked for, for the captioner or the policy; or None."""
        return self._worker.fallback

    def forget(self, source: int = 0) -> None:
        """Drop the captions of earlier frames: what follows is another scene.

        Args:
            source: whose; the others keep theirs.
        """
        self._memories.pop(source, None)

    def caption(self, frame: Frame | Pixels, *, compare: bool = False, source: int = 0) -> Result:
        """Caption one frame.

        Args:
            frame: a Frame, or its pixels (H, W, 3) uint8 RGB of any size. They may be overwritten
                afterwards.
            compare: also say what the undefended model would have said; not charged to the frame.
            source: which of several the frame is from; a late frame is held with a caption of its
                own source only.
        """
        return self.captions({source: frame}, compare=compare)[source]

    def captions(
        self, frames: Mapping[int, Frame | Pixels], *, compare: bool = False
    ) -> dict[int, Result]:
        """Caption a frame of each of several sources, side by side: one model for all of them.

        With a budget, so many are captioned at once as were found to keep it, and then others in
        what is left of it. Those that there is no room for are held, and go first the next time.
        All are handed back together, so ``total_ms`` is the same for all. A caption may differ from
        the one that the frame gets by itself, by what rounding decides.

        Args:
            frames: by source; see ``caption``.
            compare: as in ``caption``.

        Returns:
            The results, by source.
        """
        shown = {
            source: frame if isinstance(frame, Frame) else Frame(frame)
            for source, frame in frames.items()
        }
        whole = self._timer()
        results, gate_ms = self._unchanged(shown, whole.start_s, compare=compare)
        due = {source: frame for source, frame in shown.items() if source not in results}
        results |= self._captioned(due, whole.start_s)
        total_ms, within_budget = whole.total_ms, whole.within_budget
        self._worker.handed_back()
        for source, result in results.items():
            results[source] = replace(
                result,
                stage_ms={**gate_ms[source], **result.stage_ms},
                total_ms=total_ms,
                within_budget=within_budget,
            )
        for source, frame in due.items():
            if compare:
                raw_caption = self._undefended(frame, results[source])
                results[source] = replace(results[source], raw_caption=raw_caption)
            self._memories[source].stand(results[source], frame)
        return {source: results[source] for source in shown}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that captions, where there is one, with what it was at.

        It also ends with the last reference to the defender, and with this process.
        """
        self._worker.close()

    def rest(self) -> None:
        """Wait for captions that are late: between frames that come when they are asked for."""
        self._on_time.finish()

    def _timer(self, start_s: float | None = None) -> FrameTimer:
        return FrameTimer(
            self._budget,
            self._worker.costs(),
            self._clock,
            start_s=start_s,
            spare_s=self._worker.spare_s,
            runs_over=self._worker.runs_over,
        )

    def _unchanged(
        self, frames: Mapping[int, Frame], start_s: float, *, compare: bool
    ) -> tuple[dict[int, Result], dict[int, dict[str, float]]]:
        """Results of the sources whose picture stands still, and what it took to look at each."""
        results, stage_ms = {}, {}
        for source, frame in frames.items():
            memory, timer = self._memories[source], self._timer(start_s)
            stage_ms[source] = timer.stage_ms
            last = memory.standing
            if last is None or (compare and last.raw_caption is None):
                continue
            with timer.stage("gate", learn=False):
                standing = memory.unchanged(frame)
            if standing is not None:
                results[source] = _told_of(standing, frame)
        return results, stage_ms

    def _captioned(self, frames: Mapping[int, Frame], start_s: float) -> dict[int, Result]:
        """Results by source, without the time that they took: as many as there is room for."""
        results: dict[int, Result] = {}
        due = sorted(frames, key=lambda source: self._turns.get(source, 0))
        while due:
            timer = self._timer(start_s)
            count = self._room(len(due), timer, first=not results)
            lot = {source: frames[source] for source in due[: count or None]}
            memories = [self._memories[source] for source in lot]
            if count:
                told = self._on_time.results(lot, memories, timer)
                self._turns |= zip(lot, self._numbers, strict=False)
            else:
                told = held(lot, memories, timer, "frame_rate")
            for source, result in told.items():
                stage_ms = {**timer.stage_ms, **result.stage_ms}
                results[source] = replace(result, stage_ms=stage_ms)
            due = due[len(lot) :]
        return results

    def _room(self, frames: int, timer: FrameTimer, *, first: bool) -> int:
        """How many of so many frames are captioned at once in the time that is left.

        The first are, even if all that comes of it is a late caption; nobody waits behind others
        for that.
        """
        if not self._on_time.is_free(timer):
            return 0
        budget_ms = (timer.deadline_s - timer.start_s) * 1e3
        for count in range(frames, 1, -1):
            timer.costs = self._worker.costs(count)
            if timer.fits(HAND_OVER, WHOLE):
                return count
            if first and timer.costs.expected_ms(WHOLE) > budget_ms:
                timer.costs.doubt(WHOLE)
        timer.costs = self._worker.costs()
        return 1 if first or timer.fits(HAND_OVER, WHOLE) else 0

    def _undefended(self, frame: Frame, result: Result) -> str:
        """What the captioner says by itself, made after the frame's time was taken."""
        is_its_own = result.verdict in ("clean", "undefended")
        if is_its_own and "caption_length" not in result.degraded:
            assert result.caption is not None
            return result.caption
        self._on_time.finish()
        return self._worker.undefended(frame)


def _told_of(standing: Result, frame: Frame) -> Result:
    """The result of an earlier frame, for one that looks the same."""
    return replace(
        standing,
        frame=frame.index,
        time_s=frame.time_s,
        stage_ms={},
        side_by_side=1,
        unchanged_for=frame.index - standing.frame,
    )
