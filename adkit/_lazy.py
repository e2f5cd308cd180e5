"""Names that load their module when first used, so that `import adkit` stays quick; and packages that not everyone installs."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazily(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's `__getattr__`, `__dir__` and `__all__` from {public name: its module in the package}."""

    def load(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"{package} has no {name!r}; it has {', '.join(where)}.")
        return getattr(
            import_module(where[name] if "." in where[name] else f"{package}.{where[name]}"), name
        )

    return load, lambda: list(where), list(where)


def extra(module: str, name: str, who: str) -> ModuleType:
    """A module of one of adkit's extras; where it is not installed, an ImportError says how to get it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{who} needs {module}, which is not installed ({error}): pip install -e '.[{name}]'"
        ) from error
