"""Histories for other people's tools, and theirs for adkit."""

from adkit._lazy import lazily

_WHERE = {
    "to_minari": "tools",
    "from_minari": "tools",
    "to_parquet": "tools",
    "from_ad_eps": "published",
    "from_xland": "published",
}
__getattr__, __dir__, __all__ = lazily(__name__, _WHERE)
