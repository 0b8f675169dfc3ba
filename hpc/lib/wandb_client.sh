# shellcheck shell=bash
# For commands on the login node that talk to W&B's server.

declare -gA fact+=()

# wandb_client::run PROJECT COMMAND...   Runs COMMAND inside the chosen environment, fact[environment], else the project's own, with the
# variables of the project's .env and the user's key file. The key is in no argument.
wandb_client::run() (
  # Do not use the variables of a job that this is called from.
  unset WANDB_RUN_ID WANDB_SWEEP_ID WANDB_SWEEP_PARAM_PATH WANDB_RESUME
  secrets::export "$1"
  export VIRTUAL_ENV_DIRECTORY=${fact[environment]:-}
  exec bash "$1/venv/run.sh" "${@:2}"
)
