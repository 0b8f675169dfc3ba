#!/usr/bin/env bats
# The README's table of options is made from the option table. `UPDATE_README=1 bats tests/unit/readme.bats`
# writes it anew.

setup() {
  project=$(cd -- "$BATS_TEST_DIRNAME/../.." && pwd)
  source "$project/hpc/lib/common.sh"
  source "$project/hpc/lib/checks.sh"
  source "$project/hpc/lib/options.sh"
  source "$project/hpc/job_submitter/option_table.sh"
}

table() {
  local name default shown
  option_table::define
  for name in "${options_order[@]}"; do
    if [[ $name == '# '* ]]; then
      printf '\n**%s**\n\n| option | meaning |\n|---|---|\n' "${name#\# }"
    else
      default=${options_default[$name]}
      shown=$(options::shown_names "$name")
      printf '| %s | %s |\n' "\`${shown//|/\\|}\`" "${options_help[$name]}${default:+ [$default]}"
    fi
  done
  printf '\n'
}

@test "the README has the option table" {
  local -r begin='<!-- options: made by tests/unit/readme.bats -->' end='<!-- /options -->'
  table >"$BATS_TEST_TMPDIR/table"
  if [[ -n ${UPDATE_README:-} ]]; then
    sed -i -e "\|^$begin\$|,\|^$end\$|{\|^$begin\$|r $BATS_TEST_TMPDIR/table" -e "\|^<!-- |!d}" "$project/README.md"
  fi
  sed -n "\|^$begin\$|,\|^$end\$|p" "$project/README.md" | sed '1d;$d' >"$BATS_TEST_TMPDIR/readme"
  diff "$BATS_TEST_TMPDIR/table" "$BATS_TEST_TMPDIR/readme"
  [[ $(grep -c '^| `' "$BATS_TEST_TMPDIR/readme") -gt 30 ]]
}
