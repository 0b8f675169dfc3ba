# shellcheck shell=bash
# For each option of sbatch that job_submitter.sh does not have: what replaces it here, or why nothing does. Used by
# options::die_unknown.

declare -gA options_instead+=()

# sbatch_names::define   Call it after option_table::define: a name that is an option here is skipped.
sbatch_names::define() {
  local -r passed='pass it on:  --sbatch-arg=--OPTION=VALUE'
  sbatch_names::add '--array -a' 'each line of the configuration file is a task of an array, and --repeat N gives seeds'
  sbatch_names::add '-A' 'the account is  -a, --account'
  sbatch_names::add '-q' 'the quality of service is  --qos'
  sbatch_names::add '-x' 'nodes are excluded by  --exclude'
  sbatch_names::add '--job-name -J' 'the name is  -e, --exp-name'
  sbatch_names::add '--output -o --error -i --input --open-mode' 'the log lies in the run directory, where  hpc/experiments.sh logs JOB  shows it; --output-path FOLDER makes a link to it'
  sbatch_names::add '--ntasks --ntasks-per-node --ntasks-per-gpu --ntasks-per-core --ntasks-per-socket' 'processes follow from --num-nodes N and --gpus N (of each node), one for each GPU; -W says who starts them'
  sbatch_names::add '--gpus-per-node --gres' 'GPUs of each node are  -g, --gpus N , their type -G, --gpu-type'
  sbatch_names::add '--gpus-per-task --gpus-per-socket' 'each process has one GPU: give those of each node,  --gpus N'
  sbatch_names::add '--cpus-per-task --cpus-per-gpu --mincpus' 'cores are given for each node, all of its processes together:  -c, --cpus N'
  sbatch_names::add '--mem-per-cpu' 'memory is given for each node, --mem SIZE , or for each of its GPUs,  -m, --mem-per-gpu SIZE'
  sbatch_names::add '--signal' 'the program is asked to save before the time limit:  --grace-seconds N ; it looks at STOP_FILE'
  sbatch_names::add '--requeue --no-requeue' 'an interrupted job is restarted at most  --max-restarts N  times (0: never)'
  sbatch_names::add '--exclusive' 'whole nodes:  --sbatch-arg=--exclusive , with all their GPUs (--gpus) and cores (--cpus)'
  sbatch_names::add '--oversubscribe -s' 'sharing nodes:  --sbatch-arg=--oversubscribe'
  sbatch_names::add '-D' 'the folder of the command is  --chdir FOLDER'
  sbatch_names::add '-b' 'the earliest start is  --begin TIME'
  sbatch_names::add '-F --nodefile' 'nodes are named by  --nodelist'
  sbatch_names::add '-L --licenses' 'licenses:  --sbatch-arg=--licenses=NAMES'
  sbatch_names::add '-M --clusters' 'a job goes to the cluster that answers here; --cluster names the profile of its site'
  sbatch_names::add '-H --hold' 'a job that is held:  --sbatch-arg=--hold'
  sbatch_names::add '--export --export-file --get-user-env --propagate' "variables of the job stand in the project's .env, or before the program in its line; nothing else of this shell follows"
  sbatch_names::add '--wrap' 'the command is a line of experiment_configurations.txt, or of the file of --configs'
  sbatch_names::add '--wait --parsable -Q --quiet -V --version --usage -v --verbose' 'the job id is all that is printed on standard output; --follow waits for the end, and ends with its status'
  sbatch_names::add '--test-only' '--dry-run submits nothing; Slurm is asked with --test-only before each submission'
  sbatch_names::add '--uid --gid' 'a job is your own'
  sbatch_names::add '--container' 'an image is given by  -s, --singularity-container'
  local name
  for name in -B -k -O -S; do sbatch_names::add "$name" "sbatch's long name for it is passed on:  --sbatch-arg=--OPTION=VALUE"; done
  for name in bb bbf comment cpu-freq deadline delay-boot gres-flags ignore-pbs no-kill distribution mcs-label nice overcommit power priority \
    profile reboot core-spec spread-job switches thread-spec time-min use-min-nodes wckey cluster-constraint contiguous tmp \
    sockets-per-node cores-per-socket threads-per-core extra-node-info gpu-bind gpu-freq prefer hint acctg-freq network tres-per-task tres-bind container-id container-type \
    kill-on-invalid-dep oom-kill-step stepmgr exact resv-ports segment spread-segments consolidate-segments; do
    sbatch_names::add "--$name" "${passed//OPTION/$name}"
  done
}

# sbatch_names::add SPELLINGS WORDS
sbatch_names::add() {
  local spelling
  for spelling in $1; do
    if [[ -z ${options_owner[$spelling]:-} ]]; then options_instead[$spelling]="that is an option of sbatch; here $2"; fi
  done
}
