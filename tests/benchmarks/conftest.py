"""The table that `make bench` ends with. `make bench ARGS=--keep` puts this run's figures into kept.json."""

import json

from measure import KEPT, RESULTS, kept, machine, table


def pytest_addoption(parser):
    parser.addoption("--keep", action="store_true", help="keep this run's figures in the repository")


def pytest_terminal_summary(terminalreporter, config):
    if not RESULTS:
        return
    limits = machine()
    terminalreporter.section("figures")
    for line in table(RESULTS, kept()):
        terminalreporter.write_line(line)
    flops = ", ".join(f"{name} {limits[name] / 1e9:,.0f} Gflop/s" for name in ("float32", "bfloat16"))
    terminalreporter.write_line(f"This machine, now: {flops}, memory {limits['bytes'] / 1e9:.1f} GB/s.")
    if config.getoption("--keep"):
        figures = kept() | {result.figure: round(result.now, 4) for result in RESULTS}
        KEPT.write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n")
