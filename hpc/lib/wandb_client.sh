# shellcheck shell=bash
# For commands of the login node that speak with W&B's server.

declare -gA fact+=()

# wandb_client::run PROJECT COMMAND...   Inside the environment that was chosen, fact[environment], else the project's own, with what the
# project's .env and the user's key file say; the key is in no argument.
wandb_client::run() (
  # Not the place of a job that this is called from.
  unset WANDB_RUN_ID WANDB_SWEEP_ID WANDB_SWEEP_PARAM_PATH WANDB_RESUME
  secrets::export "$1"
  export VIRTUAL_ENV_DIRECTORY=${fact[environment]:-}
  exec bash "$1/venv/run.sh" "${@:2}"
)
