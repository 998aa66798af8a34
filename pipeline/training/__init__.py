"""Self-distillation of one network by any number of Ray Train workers."""
