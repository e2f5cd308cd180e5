"""The table that `make bench` ends with."""

import sys


def pytest_addoption(parser):
    parser.addoption(
        "--keep", action="store_true", help="keep this run's figures in the repository"
    )


def pytest_terminal_summary(terminalreporter, config):
    measure = sys.modules.get("measure")
    if measure and measure.RESULTS:
        terminalreporter.section("figures")
        measure.summary(terminalreporter.write_line, config.getoption("--keep"))
