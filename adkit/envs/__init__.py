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


def register() -> None:
    """Put every environment in Gymnasium's registry: `gymnasium.make("adkit/DarkRoom-v0", ...)`."""
    import gymnasium

    for name in (name for name in _WHERE if name != "from_gymnasium"):
        if f"adkit/{name}-v0" not in gymnasium.registry:
            gymnasium.register(
                f"adkit/{name}-v0", entry_point="adkit.envs.registered:make", kwargs={"name": name}
            )
