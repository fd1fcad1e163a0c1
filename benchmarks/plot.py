"""The plot: deliveries by the number of clients, and the latency at a steady rate."""

from __future__ import annotations

from pathlib import Path

from . import growth, plan
from .beside import is_before
from .catalogue import FLOORS, OURS, OURS_ALL
from .result import Result
from .table import percentile, rate, short

# Ten distinct colours, for all servers except the minimal ones in C, which are black.
COLOURS = [
    "#1f77b4", "#17becf", "#2ca02c", "#d62728", "#9467bd",
    "#8c564b", "#e377c2", "#bcbd22", "#ff7f0e", "#7f7f7f",
]  # fmt: skip


def _drawn(result: Result, measurements: list[str]) -> list[str]:
    return [each for each in result.servers(measurements) if not is_before(each)]


def draw(result: Result, to: Path) -> str | None:
    """Draw *result* as a PNG file *to*; return None, or the reason if that is not possible."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "no matplotlib, so there is no plot: pip install -e '.[bench]'"
    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 5), layout="constrained")
    names = [plan.saturation(count, 64).name for count in plan.CLIENT_COUNTS]
    colours = iter(COLOURS)
    for server in _drawn(result, names):
        values = [result.median(server, name, rate) for name in names]
        colour = "black" if server in FLOORS else next(colours)
        style = "-o" if server in OURS_ALL else ":o" if server in FLOORS else "--o"
        width = 3 if server == OURS else 1.2
        rates = [float("nan") if value is None else value * 1000 for value in values]
        left.plot(plan.CLIENT_COUNTS, rates, style, label=server, linewidth=width, color=colour)
    left.set(xscale="log", yscale="log", xlabel="clients", ylabel="deliveries a second")
    left.set_title("maximum throughput, 64 bytes")
    left.set_xticks(plan.CLIENT_COUNTS, [f"{count:,}" for count in plan.CLIENT_COUNTS])
    left.grid(alpha=0.3)
    left.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))

    calm = plan.steady(200).name
    servers = list(reversed(_drawn(result, [calm])))
    worst = [result.median(server, calm, percentile("p99")) for server in servers]
    longest = max((value for value in worst if value is not None), default=1)
    bars = ["tab:blue" if server in OURS_ALL else "tab:grey" for server in servers]
    right.barh(servers, [2 * longest if v is None else v for v in worst], color=bars)
    for place, value in enumerate(worst):
        told = "  not within 2 s" if value is None else f"  {value:,.0f} ms"
        right.text(2 * longest if value is None else value, place, told, va="center", fontsize=8)
    right.set(xscale="log", xlim=(1, 20 * longest), xlabel="ms")
    right.set_title("200 messages a second to 1,000 clients: p99")
    right.tick_params(axis="y", labelsize=8)
    figure.savefig(to, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return None


def draw_growth(result: Result, to: Path) -> str | None:
    """Draw how everything grows as a PNG file *to*, if that was measured; return as `draw` does."""
    series = growth.series(result)
    if not series["idle, MiB"]:
        return None
    try:
        import matplotlib as mpl
    except ImportError:
        return "no matplotlib, so there is no plot: pip install -e '.[bench]'"
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(14, 7), layout="constrained")
    for (name, values), place in zip(series.items(), axes.flat, strict=True):
        place.plot(list(values), list(values.values()), "-o", color="tab:blue")
        for count, value in values.items():
            label = {"xytext": (0, 6), "textcoords": "offset points", "fontsize": 8}
            place.annotate(short(value), (count, value), **label)
        slope = growth.slope(values)
        fit = "" if slope is None else f", slope {slope:.2f}"
        place.set(xscale="log", yscale="log", xlabel="clients", title=f"{name}{fit}")
        place.margins(0.15)
        place.grid(alpha=0.3)
    figure.savefig(to, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
    return None
