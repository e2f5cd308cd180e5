"""One Chromium and one JupyterLab for all browser tests."""

import pytest
from lab import jupyterlab, open_browser, run_all, write_notebook


@pytest.fixture(scope="session")
def browser():
    with open_browser() as open_page:
        yield open_page


@pytest.fixture(scope="session")
def run_notebook(browser, tmp_path_factory):
    """Return a function that runs a notebook of these cells in JupyterLab and returns its page."""
    folder = tmp_path_factory.mktemp("lab")
    with jupyterlab(folder) as address:

        def run(name: str, *cells: str):
            write_notebook(folder / f"{name}.ipynb", *cells)
            page = browser()
            run_all(page, address, name)
            return page

        run.folder = folder
        yield run
