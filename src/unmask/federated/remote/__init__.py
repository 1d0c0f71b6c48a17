"""The same plans on a real Substra network: what is sent, in which order, and what came of it."""
