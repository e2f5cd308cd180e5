"""Names that load their module when first used: `import adkit` stays quick. Optional packages."""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any


def lazily(
    package: str, where: Mapping[str, str | None]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return a package's `__getattr__`, `__dir__` and `__all__`, from {public name: module}.

    A name without a module is itself a module of the package.
    """

    def load(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"{package} has no {name!r}; it has {', '.join(where)}.")
        if where[name] is None:
            return import_module(f"{package}.{name}")
        elsewhere = where[name].startswith("adkit.")
        module = where[name] if elsewhere else f"{package}.{where[name]}"
        return getattr(import_module(module), name)

    return load, lambda: list(where), list(where)


def extra(module: str, name: str, purpose: str) -> ModuleType:
    """Import a module of the optional packages `name`, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module}, which is not installed ({error}): "
            f"pip install -e '.[{name}]'"
        ) from error
