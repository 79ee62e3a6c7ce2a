"""Writes the table and the plot of the comparison: `python -m tests.paper.partitioning_plot` (takes half a minute)."""

from __future__ import annotations

from pathlib import Path

from tests.paper.partitioning import STRATEGIES, Curve, N, best_possible, our_curve, random_curve
from tests.paper.plots import Axes

HERE = Path(__file__).parent
TABLE = HERE / "partitioning.md"
PLOT = HERE / "partitioning.svg"

AXES = Axes(
    "Load balancing efficiency, 30 nodes, N=3 (Dynamo, figure 8)", "entries of metadata at each node", 32_000, 8000,
    ("0.6", "0.7", "0.8", "0.9", "1.0"), (24_000, 0.78),
)  # fmt: skip


def write_table(curves: dict[str, Curve]) -> str:
    """The table in Markdown: the random strategies at equal sizes, then ours."""
    lines = [
        "# Load balancing efficiency against metadata (Dynamo, figure 8)",
        "",
        "30 nodes, N=3, uniform keys; mean load over the hottest node's, random strategies as the mean of ten seeds.",
        "The order is that of the paper: strategy 3 is best, strategy 2 worst (its strategy 3: .86, .94, .97, .99).",
        "Written by `python -m tests.paper.partitioning_plot`; see `partitioning.py` for what counts as an entry.",
        "",
        f"| entries of metadata | {' | '.join(STRATEGIES)} |",
        f"|---:|{'---:|' * len(STRATEGIES)}",
    ]
    rows = zip(*(curves[name] for name in STRATEGIES), strict=True)
    lines += [f"| {row[0][0]} | {' | '.join(f'{value:.3f}' for _, value in row)} |" for row in rows]
    lines += [
        "",
        "Ours names the N owners of each partition. Grown one node at a time from 3 to 30, it is as even as whole",
        "partitions can be:",
        "",
        "| entries of metadata | partitions | ours | best possible |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {size} | {size // N} | {value:.3f} | {best_possible(size // N):.3f} |" for size, value in curves["ours"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Computes all curves and writes both files."""
    curves = {name: random_curve(strategy) for name, strategy in STRATEGIES.items()} | {"ours": our_curve()}
    TABLE.write_text(write_table(curves))
    PLOT.write_text(AXES.draw(curves))


if __name__ == "__main__":
    main()
