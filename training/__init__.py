"""Data sets, scenes, the semantic fidelity reward, the environment and the Q-network's training."""
