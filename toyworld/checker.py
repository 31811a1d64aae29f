"""Judge a picture by its caption: is every solid asked for there, in the right colour, shape, size and place, and nothing else?

Knows words and solids; finder.py knows pixels.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy.typing as npt

from sd2rt.engine.errors import InvalidArgument
from sd2rt.toyworld.captions import ExpectedSolid, parse_caption
from sd2rt.toyworld.finder import MOST_SOLIDS, FoundSolid, find_solids

ATTRIBUTES = ("colour", "shape", "size", "place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One solid asked for, and what stands for it in the picture: None when it is missing."""

    expected: ExpectedSolid
    found: FoundSolid | None

    @property
    def right(self) -> dict[str, bool]:
        """Right or wrong for each attribute that the caption states; all wrong when the solid is missing."""
        stated = {name: getattr(self.expected, name) for name in ATTRIBUTES}
        return {name: self.found is not None and getattr(self.found, name) == wish for name, wish in stated.items() if wish is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A picture's verdict. The floor is reported, but `passed` does not depend on it."""

    findings: tuple[Finding, ...]
    extra: tuple[FoundSolid, ...]
    expected_floor: str | None
    found_floor: str

    @property
    def missing(self) -> int:
        """How many solids asked for are not there."""
        return sum(finding.found is None for finding in self.findings)

    @property
    def floor_right(self) -> bool | None:
        """Whether the floor has the colour asked for; None when the caption leaves it open."""
        return None if self.expected_floor is None else self.expected_floor == self.found_floor

    @property
    def passed(self) -> bool:
        """Whether every solid asked for is there with all its attributes right, and no other."""
        return not self.extra and all(all(finding.right.values()) for finding in self.findings)

    def describe(self) -> str:
        """Say what is wrong in one line, or "right"."""
        faults = [f"{s} is not asked for" for s in self.extra]
        for finding in self.findings:
            if finding.found is None:
                faults.append(f"no {finding.expected.colour or ''} {finding.expected.shape}".replace("  ", " "))
            else:
                wrong = [name for name, right in finding.right.items() if not right]
                faults += [f"{finding.found}: wrong {', '.join(wrong)}"] if wrong else []
        if self.floor_right is False:
            faults.append(f"{self.found_floor} floor, not {self.expected_floor}")
        return "; ".join(faults) or "right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How many of a set of pictures are right. Every fraction is 0 to 1, and None where no caption stated anything of the kind.

    attributes: of the solids whose caption states a colour, shape, size or place, the part that has it. count: of the pictures, the
    part with exactly as many solids as asked for. floor: of the captions with a floor. overall: of the pictures, the part that passed.
    """

    pictures: int
    attributes: dict[str, float | None]
    count: float | None
    floor: float | None
    overall: float | None


def check(image: npt.ArrayLike, caption: str) -> Report:
    """Judge a picture [S, S, 3] uint8 (or a PIL image) by its caption. About 5 ms, and a second more the first time.

    Raises InvalidArgument when the caption cannot be read or asks for more than four solids, or when S is not a multiple of 32.
    """
    wish = parse_caption(caption)
    if len(wish.solids) > MOST_SOLIDS:
        raise InvalidArgument(f"the caption asks for {len(wish.solids)} solids, but at most {MOST_SOLIDS} can be told apart: {caption!r}")
    floor, solids = find_solids(image)
    findings, extra = _assign(wish.solids, solids)
    return Report(findings=findings, extra=extra, expected_floor=wish.floor, found_floor=floor)


def accuracy(images: Iterable[npt.ArrayLike], captions: Iterable[str]) -> Accuracy:
    """Judge pictures by their captions and sum up. Raises InvalidArgument as `check` does, ValueError when one list is longer."""
    return sum_up([check(image, caption) for image, caption in zip(images, captions, strict=True)])


def sum_up(reports: Sequence[Report]) -> Accuracy:
    """Sum up the reports on a set of pictures."""
    rights = [finding.right for report in reports for finding in report.findings]
    return Accuracy(
        pictures=len(reports),
        attributes={name: _fraction(right[name] for right in rights if name in right) for name in ATTRIBUTES},
        count=_fraction(not report.missing and not report.extra for report in reports),
        floor=_fraction(right for report in reports if (right := report.floor_right) is not None),
        overall=_fraction(report.passed for report in reports),
    )


def _fraction(rights: Iterable[bool]) -> float | None:
    counted = list(rights)
    return sum(counted) / len(counted) if counted else None


def _assign(wishes: Sequence[ExpectedSolid], solids: Sequence[FoundSolid]) -> tuple[tuple[Finding, ...], tuple[FoundSolid, ...]]:
    """Match the solids found with those asked for so that most attributes are right: the findings, and the solids left over."""
    candidates: list[FoundSolid | None] = [*solids, *[None] * (len(wishes) - len(solids))]
    matches = (
        tuple(Finding(expected=w, found=f) for w, f in zip(wishes, order, strict=True)) for order in permutations(candidates, len(wishes))
    )
    best = max(matches, key=lambda findings: sum(sum(finding.right.values()) for finding in findings))
    return best, tuple(solid for solid in solids if not any(finding.found is solid for finding in best))
