"""Views beside each other, under one set of controls."""

from __future__ import annotations

from collections.abc import Mapping

import traitlets

from adkit.views import page

NOT_SHARED = {"key", "data", "lifetimes"}


class SideBySide(page.View):
    """Views beside each other under one set of controls: `SideBySide({"ours": a, "theirs": b})`.

    A trait that several views have is one here, two-way: `lifetime`, `episode`, `step` and others,
    and `layer` and `head` if the models are of one size. Each begins as in the first view with it.
    """

    def __init__(self, views: Mapping[str, page.View]):
        if not views:
            raise ValueError("`views` must name one view or more, got none")
        self.views = dict(views)
        for name, of in ("lifetime", "lifetimes of the same tasks"), ("episode", "episodes"):
            counts = {n: view.limits[name] + 1 for n, view in views.items() if name in view.limits}
            called = {tuple(view.lifetimes) for view in views.values() if name in view.limits}
            if len(set(counts.values())) > 1 or (name == "lifetime" and len(called) > 1):
                raise ValueError(f"views side by side must have as many {of}, got {counts}")
        having = {
            name: [view for view in views.values() if view.has_trait(name)]
            for name in dict.fromkeys(name for view in views.values() for name in view.own())
        }
        lasts = lambda name: [view.limits[name] for view in having[name] if name in view.limits]
        one_size = lambda name: name not in ("layer", "head") or len(set(lasts(name))) == 1
        shared = [name for name in having if len(having[name]) > 1 and one_size(name)]
        shared = [name for name in shared if name not in NOT_SHARED]
        self.limits = {name: min(lasts(name)) for name in shared if lasts(name)}
        for name in shared:
            trait, value = having[name][0].traits()[name], getattr(having[name][0], name)
            value = min(value, self.limits.get(name, value))
            self.add_traits(**{name: type(trait)(value).tag(sync=True)})
        kinds = {type(view).__name__: view._esm for view in views.values()}
        self._esm = page.script() + "".join(_kind(*each) for each in kinds.items())
        self._esm += (page.VIEWS / "side_by_side.js").read_text()
        of_each = [
            {"name": str(name), "kind": type(view).__name__, "key": view.key}
            for name, view in views.items()
        ]
        super().__init__(data={"views": of_each, "shared": shared, "limits": self.limits})
        for name in shared:
            for view in having[name]:
                traitlets.link((self, name), (view, name))

    def _state(self, at_most: int = page.KEPT_AT_MOST) -> dict:
        states = [view._state(at_most // len(self.views)) for view in self.views.values()]
        kept = [set(state["kept"]) for state in states if "kept" in state]
        for state in states:  # a picker offers what all of them hold
            if "kept" in state:
                both = set.intersection(*kept)
                state["kept"] = {n: text for n, text in state["kept"].items() if n in both}
        return super()._state() | {"states": states}

    def describe(self) -> str:
        """Return the names of the views."""
        return f"SideBySide: {', '.join(self.views)}"


def _kind(name: str, esm: str) -> str:
    """Return the front end of a kind of view, without what all share, for `adkit.kinds`."""
    own = esm.removeprefix(page.script()).replace("export default", "return")
    return f"adkit.kinds.{name} = (() => {{\n{own}}})();\n"
