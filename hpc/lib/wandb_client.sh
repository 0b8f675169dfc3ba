# shellcheck shell=bash
# For commands of the login node that speak with W&B's server.

# wandb_client::run PROJECT COMMAND...   Inside the project's environment, with what its .env and the user's key file say;
# the key is in no argument.
wandb_client::run() (
  # Not the place of a job that this is called from.
  unset WANDB_RUN_ID WANDB_SWEEP_ID WANDB_SWEEP_PARAM_PATH WANDB_RESUME
  secrets::export "$1"
  exec bash "$1/venv/run.sh" "${@:2}"
)
