"""A search space: a YAML file that says which hyperparameters vary, and over what."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, Strict, ValidationError, model_validator

from search_spaces.composition import SpaceError, compose

# Not imported, because a command line is checked before any large library is.
if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str
# The stretch below a parameter's range whose proposals mean zero, as a share of the range.
ZERO_STRETCH = 0.25


class Parameter(BaseModel, frozen=True, extra="forbid", strict=True):
    """A range `low`..`high` (both integers: an integer range) or a list of `choices`.

    `tuning.setting.space` gives them the type of the hyperparameter.

    With `or_zero`, the value may also be 0, which switches a loss term off. A parameter with
    `when` varies only in trials where each of the named hyperparameters has one of the listed
    values, or is nonzero; in all others it has its published value.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = Field(None, strict=False)
    or_zero: bool = False
    when: dict[str, Literal["nonzero"] | Annotated[tuple[Value, ...], Strict(False)]] = {}

    @model_validator(mode="after")
    def _range_or_choices(self) -> Parameter:
        if self.choices is not None:
            others = (self.low, self.high, self.log or None, self.or_zero or None)
            if any(other is not None for other in others) or not self.choices:
                raise ValueError("give either low and high, or choices")
        elif self.low is None or self.high is None or self.low > self.high:
            raise ValueError("needs choices, or low and high with low <= high")
        elif self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs a positive low; got {self.low}")
        elif self.or_zero and not (isinstance(self.low, float) and 0 < self.low < self.high):
            raise ValueError(f"or_zero: needs a range of numbers above 0; got low {self.low}")
        return self

    def suggest(self, name: str, trial: optuna.Trial) -> Value:
        """Let Optuna propose a value for the hyperparameter `name`."""
        if self.choices is not None:
            choice = trial.suggest_categorical(name, self.choices)
            assert choice is not None
            return choice
        low, high = self._ends()
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=self.log)
        if not self.or_zero:
            return trial.suggest_float(name, low, high, log=self.log)
        proposed = trial.suggest_float(name, self._stretched(0), high, log=self.log)
        return proposed if proposed >= low else 0.0

    def encoded(self, value: Value) -> Value:
        """What Optuna must propose for `suggest` to return `value`, which must be `in` this."""
        if self.or_zero and value == 0:
            return self._stretched(0.5)
        return value

    def applies(self, values: Mapping[str, Value]) -> bool:
        """Whether this parameter varies in a trial whose other hyperparameters are `values`."""
        return all(
            bool(values[name]) if allowed == "nonzero" else values[name] in allowed
            for name, allowed in self.when.items()
        )

    def corners(self) -> tuple[Value, ...]:
        """The choices, or both ends of the range: if these are valid, all values are."""
        if self.choices is not None:
            return self.choices
        return (0.0, *self._ends()) if self.or_zero else self._ends()

    def __contains__(self, value: object) -> bool:
        if self.choices is not None:
            return value in self.choices
        low, high = self._ends()
        if not isinstance(value, int | float):
            return False
        return low <= value <= high or (self.or_zero and value == 0)

    def _ends(self) -> tuple[int | float, int | float]:
        assert self.low is not None
        assert self.high is not None
        return self.low, self.high

    def _stretched(self, share: float) -> float:
        """A proposal that means 0, at `share` of the way from the stretch's lower end to `low`.

        Zero is a stretch below the range rather than a switch of its own, so that the parameter is
        a single number to every sampler. The stretch is a quarter as long as the range.
        """
        low, high = self._ends()
        if self.log:
            return float(low * (low / high) ** (ZERO_STRETCH * (1 - share)))
        return float(low - (high - low) * ZERO_STRETCH * (1 - share))


class SearchSpace(BaseModel, frozen=True, extra="forbid"):
    """What a study varies (`parameters`) and what it holds fixed.

    `published` is the point that is always evaluated first; `start` lists changes to it that are
    evaluated before any proposal. `rungs` are the shares of a trial's epochs after which it is
    compared with earlier trials. `sweep` lists the sigmas at which the baselines are tried.
    `radii` are the L2 radii that users of the data set care about, if the space says. A trial takes
    at least `steps` training steps: if there are few images, it gets more epochs.
    """

    name: str
    published: dict[str, Value]
    fixed: dict[str, Value] = {}
    parameters: dict[str, Parameter]
    start: tuple[dict[str, Value], ...] = ()
    rungs: tuple[float, ...] = Field((0.125, 0.375), description="in (0, 1), ascending")
    sweep: tuple[float, ...] = Field(min_length=1)
    radii: tuple[float, ...] = ()
    steps: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpace:
        for name, parameter in self.parameters.items():
            if name in self.fixed:
                raise ValueError(f"{name} is both fixed and varied; set one of the two to null")
            if name not in self.published:
                raise ValueError(f"published: lacks {name}, which parameters vary")
            if self.published[name] not in parameter:
                raise ValueError(f"published: {name} {self.published[name]!r} is out of its range")
        sigma = self.parameters.get("sigma")
        for value in self.sweep:
            if sigma is not None and value not in sigma:
                raise ValueError(f"sweep: sigma {value} is outside the range of parameters.sigma")
        for change in self.start:
            for name, changed in change.items():
                if name not in self.published:
                    raise ValueError(f"start: published lacks {name}")
                if name in self.parameters and changed not in self.parameters[name]:
                    raise ValueError(f"start: {name} {changed!r} is out of its range")
        self._check_conditions()
        if any(not 0 < r < 1 for r in self.rungs) or list(self.rungs) != sorted(set(self.rungs)):
            raise ValueError(f"rungs: must ascend within (0, 1); got {list(self.rungs)}")
        if any(r < 0 for r in self.radii) or list(self.radii) != sorted(set(self.radii)):
            raise ValueError(f"radii: must ascend, from 0 or above; got {list(self.radii)}")
        return self

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        """Hyperparameters of a trial: the constant ones, and the varied ones as proposed."""
        values = self.named
        # Conditional parameters come last: they need the values of the others.
        for name, parameter in sorted(self.parameters.items(), key=lambda item: bool(item[1].when)):
            if parameter.applies(values):
                values[name] = parameter.suggest(name, trial)
        return values

    @property
    def named(self) -> dict[str, Value]:
        """The published point with the fixed values: what a trial has before anything varies."""
        return {**self.published, **self.fixed}

    @property
    def conditional(self) -> bool:
        """Whether some parameters vary in some trials only."""
        return any(p.when for p in self.parameters.values())

    def holding(self, values: Mapping[str, Value]) -> SearchSpace:
        """This space with the hyperparameters `values` held fixed instead of varied."""
        varied = {name: p for name, p in self.parameters.items() if name not in values}
        return self.model_copy(update={"fixed": {**self.fixed, **values}, "parameters": varied})

    @property
    def largest_sigma(self) -> float:
        """The most noise under which anything of this space is trained or certified."""
        varied = self.parameters.get("sigma")
        own = (self.named.get("sigma", 0.0),) if varied is None else varied.corners()
        return max(*map(float, own), *self.sweep)

    @property
    def constants(self) -> dict[str, Value]:
        """Values of the hyperparameters that the space names but does not vary."""
        return {name: v for name, v in self.named.items() if name not in self.parameters}

    def point(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """What Optuna must propose to come as close to the hyperparameters `values` as possible.

        Parameters that `values` lacks, or whose value is out of range, get their published value.
        """
        return {
            name: p.encoded(values[name] if values.get(name) in p else self.published[name])
            for name, p in self.parameters.items()
        }

    def difference(self, stored: Mapping[str, Any]) -> str:
        """Where this space first differs from `stored`, a dump of it; empty if nowhere."""
        return _difference(stored, self.model_dump(mode="json"))

    def _check_conditions(self) -> None:
        known = self.named
        for name, parameter in self.parameters.items():
            for other in parameter.when:
                if other not in known:
                    raise ValueError(f"parameters.{name}: when: {other} has no value here")
                if other in self.parameters and self.parameters[other].when:
                    raise ValueError(f"parameters.{name}: when: {other} has a condition itself")

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change with anything in the space."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]


def load_space(name: str, fixed: Mapping[str, Value] | None = None) -> SearchSpace:
    """The shipped space `name`, or the one in the file `name` if it ends in .yaml.

    `fixed` hyperparameters are held at these values instead of being varied. For example:

        >>> space = load_space("svhn-10pct", {"width": 32})
        >>> space.fixed
        {'epochs': 120, 'flip': False, 'width': 32}

    Raises:
        SpaceError: when there is no such space, when it is not valid, or when it extends a file
            that is missing or cannot be read.
    """
    content = compose(name)
    try:
        return SearchSpace.model_validate(content).holding(fixed or {})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise SpaceError(f"--space: {name}: {where + ': ' if where else ''}{message}") from error


def _difference(before: Any, now: Any, where: str = "") -> str:
    """Where two nested values first differ, and how; empty if they are equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            path = f"{where}.{key}" if where else str(key)
            if found := _difference(before.get(key, "absent"), now.get(key, "absent"), path):
                return found
        return ""
    return "" if before == now else f"{where} was {before}, and is now {now}"
