"""The plot: deliveries by the number of clients, and the latency at a steady rate."""

from __future__ import annotations

from pathlib import Path

from . import plan
from .catalogue import FLOORS, OURS, OURS_ALL
from .result import Result
from .table import percentile, rate

# Ten distinct colours, for all servers except the minimal ones in C, which are black.
COLOURS = [
    "#1f77b4", "#17becf", "#2ca02c", "#d62728", "#9467bd",
    "#8c564b", "#e377c2", "#bcbd22", "#ff7f0e", "#7f7f7f",
]  # fmt: skip


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
    for server in result.servers(names):
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
    servers = list(reversed(result.servers([calm])))
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
