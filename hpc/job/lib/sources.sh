# shellcheck shell=bash
# The project as it was at submission, unpacked for the job (job_submitter/snapshot.sh packs it).

declare -gA fact+=()

# sources::unpack RUN_DIRECTORY   Tasks of an array that start together each unpack, and one of them gives its copy the name. What
# git ignores (data, weights) is linked from the live project.
sources::unpack() {
  local -r folder=${fact[source_dir]}
  local partial name
  if [[ ! -e $1/source.tar || -d $folder ]]; then return; fi
  partial=$(mktemp -d -- "$folder.XXXXXX")
  tar --extract --no-unquote --directory="$partial" --file="$1/source.tar" ||
    common::die "cannot unpack ${1@Q}/source.tar on $(common::node); tar's words are above"
  while LC_ALL=C IFS= read -r -d '' name; do # bytes: a name may end in half a character
    name=${name%/}
    mkdir -p -- "$partial/$(dirname -- "$name")"
    ln -s -- "${fact[project_directory]}/$name" "$partial/$name"
  done <"$1/source.tar.ignored"
  chmod 755 -- "$partial"
  mv -T -- "$partial" "$folder" 2>/dev/null || rm -rf -- "$partial"
}
