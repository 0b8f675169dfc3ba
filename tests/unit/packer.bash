# shellcheck shell=bash
# packer.bash CHECKOUT pack PLAN PATH...     Packs paths below ${SCRATCH_DIR} as the submitter does.
# packer.bash CHECKOUT unpack PLAN FOLDER    Unpacks all of it into FOLDER as a node does.
#
# For the tests of packing, which kill this process in many ways. FORMAT, DAYS, MEGABYTES and WAY are its options. PART_FILES and
# IMAGE_FILES replace constants that would need many files.
set -euo pipefail
shopt -s inherit_errexit

checkout=$1 verb=$2 plan=$3
shift 3
for name in lib/common lib/files lib/slurm lib/run_directory job/lib/local_disk lib/packing lib/staging job/lib/plan job/lib/unpacking; do
  # shellcheck source=/dev/null
  source <(sed -E "s/packing_part_files=[0-9]+/packing_part_files=${PART_FILES:-20000}/
    s/staging_image_files=[0-9]+/staging_image_files=${IMAGE_FILES:-10000}/" "$checkout/hpc/$name.sh")
done
declare -a staging_paths+=() plan_kinds
declare -A fact+=([scratch_dir]=${SCRATCH_DIR:?} [data_format]=${FORMAT:-auto} [stage_venv]='' [staging_days]=${DAYS:-30}
  [staging_megabytes]=${MEGABYTES:-500000})

case $verb in
  pack)
    staging_paths=("$@")
    staging::prepare
    staging::write "$plan"
    ;;
  unpack)
    export SLURM_TMPDIR=$1 SLURMD_NODENAME=here
    mkdir -p -- "$SLURM_TMPDIR/.hpc_kit/archives"
    plan::read "$plan"
    unpacking::check_space "${WAY:-read}"
    for entry in "${!plan_kinds[@]}"; do
      if unpacking::is_there "$entry"; then
        common::note "entry $entry is there"
      else
        unpacking::bring "$entry" "${WAY:-read}"
      fi
    done
    ;;
esac
