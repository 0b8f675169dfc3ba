"""What a training program imports to be distributed, interruptible and tracked."""
