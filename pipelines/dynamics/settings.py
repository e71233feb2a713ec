"""What a run of dynamics is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hdistill.trainer.evaluation.dynamics import Limits
    from hdistill.trainer.evaluation.simulation import Conditions


def _conditions() -> Conditions:
    from hdistill.trainer.evaluation.simulation import Conditions

    return Conditions()


def _limits() -> Limits:
    from hdistill.trainer.evaluation.dynamics import Limits

    return Limits()


@dataclass(frozen=True)
class MdSettings:
    """steps in all; every: steps between two frames and rows of the log; form of the trajectory: xyz, traj or nc. stop_beyond: the
    domain_distance at which a run ends, None: at none. compiled: as HDistillCalculator has it."""

    conditions: Conditions = field(default_factory=_conditions)
    steps: int = 10_000
    every: int = 10
    form: str = "xyz"
    stop_beyond: float | None = 10.0
    limits: Limits = field(default_factory=_limits)
    compiled: Any = "auto"

    def __post_init__(self) -> None:
        from hdistill.data.errors import InputError

        for name in ("steps", "every"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} was {getattr(self, name)}; it must be more than 0.")
        if self.stop_beyond is not None and not self.stop_beyond > 0:
            raise InputError(f"stop_beyond was {self.stop_beyond}; it must be more than 0, or None.")
