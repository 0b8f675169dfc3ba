"""Parts of a training program for several ranks, interruptions and logging."""
