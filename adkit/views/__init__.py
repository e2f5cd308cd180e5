"""Live views and figures of histories. Each module loads when one of its names is first used."""

from adkit._lazy import lazily

_WHERE = {
    "learning_curves": "curves",
    "result_curves": "curves",
    "heat_map": "curves",
    "intervals": "dots",
    "Figure": "figure",
    "EpisodeAttention": "attention",
    "PolicyField": "fields",
    "ArrowFields": "fields",
    "Diagnosis": "diagnosis",
    "Player": "player",
    "replay": "player",
    "SideBySide": "side_by_side",
}
__getattr__, __dir__, __all__ = lazily(__name__, _WHERE)
