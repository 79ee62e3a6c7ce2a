"""Writes the table and the plot of the comparison: `python -m tests.paper.partitioning_plot` (takes half a minute)."""

from __future__ import annotations

from pathlib import Path

from tests.paper.partitioning import STRATEGIES, Curve, N, best_possible, our_curve, random_curve

HERE = Path(__file__).parent
TABLE = HERE / "partitioning.md"
PLOT = HERE / "partitioning.svg"

WIDTH, HEIGHT, MARGIN = 720, 440, 60  # pixels
X_MAX = 32_000  # entries of metadata
Y_MIN = 0.6
COLOURS = {"strategy 1": "#0072b2", "strategy 2": "#d55e00", "strategy 3": "#009e73", "ours": "#000000"}


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


def _x(size: float) -> float:
    return round(MARGIN + size / X_MAX * (WIDTH - 2 * MARGIN), 1)


def _y(value: float) -> float:
    return round(HEIGHT - MARGIN - (value - Y_MIN) / (1 - Y_MIN) * (HEIGHT - 2 * MARGIN), 1)


def write_plot(curves: dict[str, Curve]) -> str:
    """The plot as SVG: efficiency over size, a line with dots for each curve."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{WIDTH / 2}" y="30" text-anchor="middle" font-size="15">'
        "Load balancing efficiency, 30 nodes, N=3 (Dynamo, figure 8)</text>",
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">entries of metadata at each node</text>',
    ]
    for tenth in range(6, 11):
        y = _y(tenth / 10)
        parts.append(f'<line x1="{_x(0)}" x2="{_x(X_MAX)}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
        parts.append(f'<text x="{_x(0) - 8}" y="{y + 4}" text-anchor="end">{tenth / 10:.1f}</text>')
    parts += [
        f'<text x="{_x(size)}" y="{_y(Y_MIN) + 20}" text-anchor="middle">{size}</text>'
        for size in range(0, X_MAX + 1, 8000)
    ]
    for place, (name, curve) in enumerate(curves.items()):
        parts += _draw(name, curve, _y(0.78) + 20 * place)
    return "\n".join([*parts, "</svg>", ""])


def _draw(name: str, curve: Curve, legend_y: float) -> list[str]:
    colour = COLOURS[name]
    points = " ".join(f"{_x(size)},{_y(value)}" for size, value in curve)
    x = _x(X_MAX * 0.75)
    return [
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{_x(size)}" cy="{_y(value)}" r="3" fill="{colour}"/>' for size, value in curve),
        f'<line x1="{x}" x2="{x + 30}" y1="{legend_y}" y2="{legend_y}" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{x + 38}" y="{legend_y + 4}">{name}</text>',
    ]


def main() -> None:
    """Computes all curves and writes both files."""
    curves = {name: random_curve(strategy) for name, strategy in STRATEGIES.items()} | {"ours": our_curve()}
    TABLE.write_text(write_table(curves))
    PLOT.write_text(write_plot(curves))


if __name__ == "__main__":
    main()
