"""Pictures of histories. Loaded when first used."""

from importlib import import_module

_WHERE = {
    "learning_curves": "curves",
    "visits": "curves",
    "visit_shares": "curves",
    "Figure": "curves",
    "replay": "rooms",
    "Replay": "rooms",
}
__all__ = [*_WHERE]


def __getattr__(name):
    if name not in _WHERE:
        raise AttributeError(f"adkit.views has no {name!r}; it has {', '.join(__all__)}.")
    return getattr(import_module(f"adkit.views.{_WHERE[name]}"), name)


def __dir__():
    return __all__
