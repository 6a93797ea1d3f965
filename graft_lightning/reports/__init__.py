"""What people read: comparisons of runs, the cost of a configuration, the diagnosis of a pool."""
