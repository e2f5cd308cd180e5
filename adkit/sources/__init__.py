"""Source algorithms, whose learning histories are distilled, and reference agents."""

from adkit._lazy import lazily

_WHERE = {
    "GoalSearch": "goal_search",
    "PoseQLearning": "q_learning",
    "ActorCritic": "actor_critic",
    "DQN": "dqn",
    "QLearning": "q_learning",
    "Shards": "adkit.cookieworld.population",
    "UCB": "bandits",
    "ThompsonSampling": "bandits",
    "PosteriorSampling": "posterior_sampling",
    "SystematicExplorer": "posterior_sampling",
    "Optimal": "references",
    "Random": "references",
    "StableBaselines3": "stable_baselines",
}
__getattr__, __dir__, __all__ = lazily(__name__, _WHERE)
