"""Find the accuracy-latency Pareto front of a trained network on your hardware."""
