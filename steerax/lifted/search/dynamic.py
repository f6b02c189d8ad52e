r"""Dynamic programming on the lifted Markov decision process, for any finite class of integer networks.

$V_t(\Lambda)=\min_a\{r(a)+V_{t+1}(\Phi_{a\#}\Lambda)\}$, $V_L(\Lambda)=\min_f\{r(f)+\int\ell_f\,d\Lambda\}$ over the distributions that
can be reached. The process is deterministic and its state is observed, so the optimal closed-loop policy, followed
from $\Lambda_0$, is a fixed list of weights: a network. It depends on the distribution of the data, never on the one sequence that
runs through it. For small classes; class R1 has a search of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int

from ..._errors import ConfigurationError
from ...transformer.quantized import QuantizedNetwork, Step
from ..problem.distribution import Distribution


@dataclass(frozen=True, eq=False)
class Choice:
    """One setting of some weights. **Attributes:** `name`, the weights; `steps` it stands for; `cost` ≥ 0 of them."""

    name: str
    steps: tuple[Step, ...]
    cost: int = 0


@dataclass(frozen=True, eq=False)
class Reading:
    """One setting of the read-out. **Attributes:** `loss [K Y]`, integer loss of every code of register 0 against every
    label; `output [K]`, the label it announces; `cost` ≥ 0."""

    name: str
    loss: Int[np.ndarray, "K Y"]
    output: Int[np.ndarray, "..."]
    cost: int = 0


@dataclass(frozen=True, eq=False)
class FiniteProblem:
    """A finite class of networks and the distribution it is trained on.

    **Arguments:** `embedding [n V]`; `initial`, the distribution of the embedded data (one register); `stages`, the choices of
    each stage in order (a layer is one or several stages); `readings`.
    """

    embedding: Int[np.ndarray, "n V"]
    initial: Distribution
    stages: tuple[tuple[Choice, ...], ...]
    readings: tuple[Reading, ...]

    def __post_init__(self):
        if not all(self.stages) or not self.readings:
            raise ConfigurationError("Every stage needs at least one choice, and there must be one reading.")
        if min(c.cost for c in (*self.readings, *(c for stage in self.stages for c in stage))) < 0:
            raise ConfigurationError("Costs of weights are integers ≥ 0.")

    def cost(self, choices: Sequence[int], distribution: Distribution | None = None) -> int:
        """The total cost of a network: one choice a stage and, last, a reading."""
        distribution = distribution or self.initial
        for stage, a in zip(self.stages, choices, strict=False):
            distribution = distribution.push(stage[a].steps)
        reading = self.readings[choices[-1]]
        return self.weight_cost(choices) + distribution.cost(reading.loss)

    def weight_cost(self, choices: Sequence[int]) -> int:
        """Σ r(a) of a network."""
        stages = (*self.stages, self.readings)
        return sum(stage[a].cost for stage, a in zip(stages, choices, strict=True))

    def network(self, choices: Sequence[int]) -> QuantizedNetwork:
        """The network as it is deployed."""
        steps = tuple(s for stage, a in zip(self.stages, choices, strict=False) for s in stage[a].steps)
        reads = "first" if self.initial.labels.shape[1] == 1 else "all"
        return QuantizedNetwork(self.embedding, steps, self.readings[choices[-1]].output, reads)


@dataclass(frozen=True, eq=False)
class Policy:
    """The optimal closed-loop policy on every distribution it was asked about.

    **Attributes:** `problem`; `tables`, for each stage: key of the distribution → (optimal cost to go, optimal choice).
    """

    problem: FiniteProblem
    merging: bool = True
    tables: list[dict[bytes, tuple[int, int]]] = field(default_factory=list)

    def value(self, distribution: Distribution | None = None, stage: int = 0) -> int:
        """V of a distribution (default: the data's), by backward induction on the distributions reachable from it."""
        return self._solve(distribution or self.problem.initial, stage)[0]

    def choice(self, distribution: Distribution, stage: int) -> int:
        """The optimal choice in a state."""
        return self._solve(distribution, stage)[1]

    def roll_out(self, distribution: Distribution | None = None) -> list[int]:
        """Follow the policy, asking it anew in every state: one choice a stage and a reading."""
        distribution, choices = distribution or self.problem.initial, []
        for t, stage in enumerate(self.problem.stages):
            choices.append(self.choice(distribution, t))
            distribution = distribution.push(stage[choices[-1]].steps)
        return [*choices, self.choice(distribution, len(self.problem.stages))]

    @property
    def states(self) -> list[int]:
        """Distinct distributions met before each stage and before the reading."""
        return [len(table) for table in self.tables]

    @cached_property
    def network(self) -> QuantizedNetwork:
        """The optimal network for the data's distribution."""
        return self.problem.network(self.roll_out())

    def _solve(self, distribution: Distribution, t: int) -> tuple[int, int]:
        while len(self.tables) <= len(self.problem.stages):
            self.tables.append({})
        key = distribution.key
        found = self.tables[t].get(key) if self.merging else None
        if found is None:
            if t == len(self.problem.stages):
                costs = [reading.cost + distribution.cost(reading.loss) for reading in self.problem.readings]
            else:
                costs = [c.cost + self._solve(distribution.push(c.steps), t + 1)[0] for c in self.problem.stages[t]]
            best = int(np.argmin(costs))
            found = self.tables[t][key] = (costs[best], best)
        return found


def solve_dynamic(problem: FiniteProblem, merging: bool = True) -> Policy:
    """Solve a finite problem exactly; ask the result for `value()`, `roll_out()`, `network`, `states`."""
    policy = Policy(problem, merging)
    policy.value()
    return policy


def input_dependent_value(problem: FiniteProblem) -> int:
    """The cost if every sequence could choose its own weights: a lower bound, and no transformer.

    It is Σ over atoms of the value of the atom alone; costs of weights are paid by nobody here.
    """
    policy = Policy(problem)
    if any(c.cost for stage in (*problem.stages, problem.readings) for c in stage):
        raise ConfigurationError("With costs of weights there is no input-dependent value to compare with.")
    return sum(policy.value(problem.initial.part([i])) for i in range(len(problem.initial.weights)))
