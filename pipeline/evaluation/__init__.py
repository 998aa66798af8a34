"""Every profile of one network: accuracy in one pass, cost, latency, Pareto front."""
