"""Pictures of a sweep: the numbers that each shows, then the ink. The only place that knows Matplotlib."""
