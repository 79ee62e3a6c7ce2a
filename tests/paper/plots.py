"""Line plots as SVG: a line with dots for each curve, and a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, MARGIN = 720, 440, 60  # pixels
SPACE = 'xmlns="http://www.w3.org/2000/svg"'
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#000000")
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Axes:
    """The title, and what is shown of both axes. `x_step` is from one label to the next; `legend` is where it begins."""

    title: str
    x_label: str
    x_max: float
    x_step: int
    y_ticks: Sequence[str]
    legend: tuple[float, float]

    def x(self, value: float) -> float:
        """The pixel of a value on the horizontal axis."""
        return round(MARGIN + value / self.x_max * (WIDTH - 2 * MARGIN), 1)

    def y(self, value: float) -> float:
        """The pixel of a value on the vertical axis."""
        low, high = float(self.y_ticks[0]), float(self.y_ticks[-1])
        return round(HEIGHT - MARGIN - (value - low) / (high - low) * (HEIGHT - 2 * MARGIN), 1)

    def draw(self, curves: Mapping[str, Points]) -> str:
        """The plot."""
        parts = [
            f'<svg {SPACE} viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<text x="{WIDTH / 2}" y="30" text-anchor="middle" font-size="15">{self.title}</text>',
            f'<text x="{WIDTH / 2}" y="{HEIGHT - 15}" text-anchor="middle">{self.x_label}</text>',
        ]
        for label in self.y_ticks:
            y = self.y(float(label))
            parts.append(f'<line x1="{self.x(0)}" x2="{self.x(self.x_max)}" y1="{y}" y2="{y}" stroke="#dddddd"/>')
            parts.append(f'<text x="{self.x(0) - 8}" y="{y + 4}" text-anchor="end">{label}</text>')
        bottom = self.y(float(self.y_ticks[0])) + 20
        parts += [
            f'<text x="{self.x(value)}" y="{bottom}" text-anchor="middle">{value}</text>'
            for value in range(0, int(self.x_max) + 1, self.x_step)
        ]
        x, y = self.x(self.legend[0]), self.y(self.legend[1])
        for place, (name, curve) in enumerate(curves.items()):
            parts += self._line(name, curve, COLOURS[place], x, y + 20 * place)
        return "\n".join([*parts, "</svg>", ""])

    def _line(self, name: str, curve: Points, colour: str, legend_x: float, legend_y: float) -> list[str]:
        points = " ".join(f"{self.x(x)},{self.y(y)}" for x, y in curve)
        ends = f'x1="{legend_x}" x2="{legend_x + 30}" y1="{legend_y}" y2="{legend_y}"'
        return [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>',
            *(f'<circle cx="{self.x(x)}" cy="{self.y(y)}" r="3" fill="{colour}"/>' for x, y in curve),
            f'<line {ends} stroke="{colour}" stroke-width="2"/>',
            f'<text x="{legend_x + 38}" y="{legend_y + 4}">{name}</text>',
        ]
