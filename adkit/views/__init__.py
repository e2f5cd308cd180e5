"""Pictures of histories. Loaded when first used."""

from adkit._lazy import lazily

_WHERE = {
    "learning_curves": "curves",
    "result_curves": "curves",
    "heat_map": "curves",
    "visits": "curves",
    "visit_shares": "curves",
    "Figure": "curves",
    "EpisodeAttention": "attention",
    "PolicyField": "fields",
    "arrow_fields": "fields",
    "Player": "player",
    "replay": "player",
    "Replay": "player",
}
__getattr__, __dir__, __all__ = lazily(__name__, _WHERE)
