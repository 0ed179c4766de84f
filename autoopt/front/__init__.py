"""The configs that no other config beats on accuracy and latency both, given the uncertainty of both."""
