"""Environments: families of tasks. Loaded when first used."""

from adkit._lazy import lazily

_WHERE = {
    "AdversarialBandit": "bandit",
    "CookieWorld": "adkit.cookieworld.world",
    "DarkKeyToDoor": "key_to_door",
    "DarkRoom": "dark_room",
    "Watermaze": "watermaze",
    "from_gymnasium": "gymnasium",
}
__getattr__, __dir__, __all__ = lazily(__name__, _WHERE)
