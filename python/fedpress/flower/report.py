"""What a run cost: bytes, errors and seconds by round."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Traffic:
    """One way of one round.

    Attributes:
        messages: how many carried a model or an update.
        n_bytes: of encoded arrays, in all of them.
        raw_bytes: of the same arrays, uncoded.
        nmse: sum over messages of the error of what was decoded.
        seconds: spent to encode and decode, in all of them.
    """

    messages: int = 0
    n_bytes: int = 0
    raw_bytes: int = 0
    nmse: float = 0.0
    seconds: float = 0.0

    def add(self, n_bytes: int, raw_bytes: int, nmse: float, seconds: float = 0.0) -> None:
        """Count one message."""
        self.messages += 1
        self.n_bytes += n_bytes
        self.raw_bytes += raw_bytes
        self.nmse += nmse
        self.seconds += seconds

    @property
    def ratio(self) -> float:
        """How many times less went over the wire."""
        return self.raw_bytes / self.n_bytes if self.n_bytes else float("inf") if self.raw_bytes else 1.0

    @property
    def mean_nmse(self) -> float:
        """The mean error of a message."""
        return self.nmse / self.messages if self.messages else 0.0


@dataclass
class Round:
    """A round, both ways.

    Attributes:
        down: to the nodes, models to train and to evaluate.
        up: from the nodes.
        refused: replies that could not be used, by node, and why.
    """

    down: Traffic = field(default_factory=Traffic)
    up: Traffic = field(default_factory=Traffic)
    refused: dict[int, str] = field(default_factory=dict)


@dataclass
class Report:
    """A run, round by round.

    Attributes:
        rounds: by number.
    """

    rounds: dict[int, Round] = field(default_factory=dict)

    def round(self, number: int) -> Round:
        """Return a round, begun if there is none of this number."""
        return self.rounds.setdefault(number, Round())

    def total(self, way: str) -> Traffic:
        """Return the sums over all rounds, of ``"down"`` or ``"up"``."""
        total = Traffic()
        for traffic in (getattr(round, way) for round in self.rounds.values()):
            for name, value in vars(traffic).items():
                setattr(total, name, getattr(total, name) + value)
        return total

    def __str__(self) -> str:
        """Return the table."""
        lines = [f"{'round':>5}  {'down':>10} {'less':>7} {'NMSE':>8}  {'up':>10} {'less':>7} {'NMSE':>8}"]
        rows = [(str(number), round.down, round.up) for number, round in sorted(self.rounds.items())]
        for name, down, up in [*rows, ("all", self.total("down"), self.total("up"))]:
            lines.append(f"{name:>5}  {_columns(down)}  {_columns(up)}")
        refused = [f"round {n}: {why}" for n, r in sorted(self.rounds.items()) for why in r.refused.values()]
        return "\n".join(lines + refused)


def _columns(traffic: Traffic) -> str:
    return f"{_size(traffic.n_bytes):>10} {traffic.ratio:>6.1f}x {traffic.mean_nmse:>8.2g}"


def _size(n_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:.4g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.4g} GB"
