"""Many trainings that answer one question, on Ray Tune: planned, started, watched, recorded, continued."""
