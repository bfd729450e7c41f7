"""Training: one loop for all papers, its penalties, transforms and schedules."""
