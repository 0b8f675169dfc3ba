"""One module a task.

Each has a `Config`, whose fields become the flags and of which one is `device`, and
`run(config, environment, device)`, which every rank calls inside the process group and which returns the
exit status.
"""
