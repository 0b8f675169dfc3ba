"""Models, and what they are trained by: for tasks alone."""
