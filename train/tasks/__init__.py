"""One module per task.

Each module defines `Config`, whose fields become the flags, and `Task`, which train.loop trains. A module with several
trainings defines `run(config, environment, device)` instead: every rank calls it inside the process group, and it
returns the exit status.
"""
