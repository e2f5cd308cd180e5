"""The transformer and its relatives: tokens, model, training, frozen rollouts."""
