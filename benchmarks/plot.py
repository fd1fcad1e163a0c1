"""The plot: how deliveries go with the crowd, and what a message takes in a steady stream."""

from __future__ import annotations

from pathlib import Path

from . import plan
from .catalogue import FLOORS, OURS, OURS_ALL
from .result import Result
from .table import at, rate

# Ten that differ, for all but the floors, which are black.
COLOURS = [
    "#1f77b4", "#17becf", "#2ca02c", "#d62728", "#9467bd",
    "#8c564b", "#e377c2", "#bcbd22", "#ff7f0e", "#7f7f7f",
]  # fmt: skip


def draw(result: Result, to: Path) -> str | None:
    """Draw *result* as PNG, or return why not."""
    try:
        import matplotlib as mpl
    except ImportError:
        return "no matplotlib, so there is no plot: pip install -e '.[bench]'"
    mpl.use("agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(14, 5), layout="constrained")
    names = [plan.saturation(crowd, 64).name for crowd in plan.CROWDS]
    colours = iter(COLOURS)
    for server in result.servers(names):
        values = [result.median(server, name, rate) for name in names]
        colour = "black" if server in FLOORS else next(colours)
        style = "-o" if server in OURS_ALL else ":o" if server in FLOORS else "--o"
        width = 3 if server == OURS else 1.2
        rates = [float("nan") if value is None else value * 1000 for value in values]
        left.plot(plan.CROWDS, rates, style, label=server, linewidth=width, color=colour)
    left.set(xscale="log", yscale="log", xlabel="clients", ylabel="deliveries a second")
    left.set_title("as many as it can take, 64 bytes")
    left.set_xticks(plan.CROWDS, [f"{crowd:,}" for crowd in plan.CROWDS])
    left.grid(alpha=0.3)
    left.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))

    calm = plan.steady(200).name
    servers = list(reversed(result.servers([calm])))
    worst = [result.median(server, calm, at("p99")) for server in servers]
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
