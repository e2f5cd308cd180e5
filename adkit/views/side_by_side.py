"""Views beside each other, under one set of controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import traitlets

from adkit.views import page

NOT_SHARED = {"key", "data", "lifetimes"}
OF_A_MODEL = {"layer", "head"}  # shared by models of one size


class SideBySide(page.View):
    """Views beside each other under one set of controls: `SideBySide({"ours": a, "theirs": b})`.

    A trait that several views have is one here, two-way: `lifetime`, `episode`, `step` and others,
    and `layer` and `head` if the models are of one size. Each begins as in the first view with it.
    """

    def __init__(self, views: Mapping[str, page.LifetimeView]):
        self.views, each = dict(views), list(views.values())
        if len({(tuple(view.lifetimes), view.limits["episode"]) for view in each}) != 1:
            got = {n: (len(v.lifetimes), v.limits["episode"] + 1) for n, v in views.items()}
            what = "the same lifetimes, of equally many episodes"
            raise ValueError(f"views side by side must show {what}, got {got} of them")
        number = Counter(name for view in each for name in view.own())
        shared, limits = {}, {}
        for name in (name for name, n in number.items() if n > 1 and name not in NOT_SHARED):
            having = [view for view in each if view.has_trait(name)]
            lasts = [view.limits[name] for view in having if name in view.limits]
            if name not in OF_A_MODEL or len(set(lasts)) == 1:
                shared[name], value = having, getattr(having[0], name)
                limits |= {name: min(lasts)} if lasts else {}
                trait = type(having[0].traits()[name])
                self.add_traits(**{name: trait(min([value, *lasts])).tag(sync=True)})
        kinds = {type(view).__name__: view._esm.removeprefix(page.script()) for view in each}
        wrap = lambda own: own.replace("export default", "return")
        parts = (
            f"adkit.kinds.{kind} = (() => {{{wrap(own)}}})();\n" for kind, own in kinds.items()
        )
        self._esm = "".join(
            (page.script(), *parts, (page.VIEWS / "side_by_side.js").read_text(encoding="utf-8"))
        )
        named = [(str(name), type(view).__name__, view.key) for name, view in views.items()]
        data = {"views": named, "shared": list(shared), "limits": limits}
        super().__init__(limits, data=data)
        for name, having in shared.items():
            for view in having:
                traitlets.link((self, name), (view, name))

    def _state(self, at_most: int = page.KEPT_AT_MOST) -> dict:
        states = [view._state(at_most // len(self.views)) for view in self.views.values()]
        return super()._state() | {"states": states}

    def describe(self) -> str:
        """Return the names of the views."""
        return f"SideBySide: {', '.join(self.views)}"
