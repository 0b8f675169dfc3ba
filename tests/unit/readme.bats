#!/usr/bin/env bats
# The pages. The table of options in hpc/job_submitter/README.md is generated from the option table: `UPDATE_README=1 bats
# tests/unit/readme.bats` writes it. pages.py checks links, lengths, commands and options of all pages, here on small pages with one fault
# each and on the real ones.

bats_require_minimum_version 1.5.0

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

@test "the page of job_submitter.sh has the option table" {
  local -r begin='<!-- options: made by tests/unit/readme.bats -->' end='<!-- /options -->'
  table >"$BATS_TEST_TMPDIR/table"
  if [[ -n ${UPDATE_README:-} ]]; then
    sed -i -e "\|^$begin\$|,\|^$end\$|{\|^$begin\$|r $BATS_TEST_TMPDIR/table" -e "\|^<!-- |!d}" "$project/hpc/job_submitter/README.md"
  fi
  sed -n "\|^$begin\$|,\|^$end\$|p" "$project/hpc/job_submitter/README.md" | sed '1d;$d' >"$BATS_TEST_TMPDIR/readme"
  diff "$BATS_TEST_TMPDIR/table" "$BATS_TEST_TMPDIR/readme"
  [[ $(grep -c '^| `' "$BATS_TEST_TMPDIR/readme") -gt 30 ]]
}

# page FILE LINE...   Writes a page of a small checkout; README.md links it.
page() {
  mkdir -p -- "$BATS_TEST_TMPDIR/pages/$(dirname -- "$1")"
  printf '%s\n' "${@:2}" >"$BATS_TEST_TMPDIR/pages/$1"
  if [[ $1 == *.md && $1 != README.md ]]; then printf '[a page](%s)\n' "$1" >>"$BATS_TEST_TMPDIR/pages/README.md"; fi
}

# finds LINE...   pages.py must print these lines for the small checkout, and no others.
finds() {
  local wanted=''
  if (($# > 0)); then printf -v wanted '%s\n' "$@"; fi
  printf '%s\n' 'hpc/greet.sh --loud' 'venv/run.sh' 'tests/run.sh --only' >"$BATS_TEST_TMPDIR/options"
  run python3 "$BATS_TEST_DIRNAME/pages.py" "$BATS_TEST_TMPDIR/pages" "$BATS_TEST_TMPDIR/options"
  diff <(printf '%s' "$wanted") <(printf '%s' "${output:+$output$'\n'}")
  [[ $status == $(($# > 0)) ]]
}

@test "pages without a fault" {
  page README.md '# The kit' 'See [words](hpc/README.md#two-words-it-is), [elsewhere](https://example.org/x) and `[no](link)`.'
  page hpc/README.md '# Words' '## Two words: `it` is' '```bash' '# no heading, [no](link)' 'bash hpc/greet.sh --loud -- python x.py --quiet   # --comment' '```' \
    'Run `greet.sh --loud | cat --all`, `run.sh --only x`, `bash hpc/NAME.sh`, `torchrun --nnodes 2`, `python -m train.greet`, `--loud`.'
  page hpc/greet.sh 'echo --loud # hpc/README.md says more'
  page train/greet.py ''
  finds
}

@test "broken links, links to missing headings or to pages that projects do not get; pages without a link" {
  page README.md '# The kit' '[one](hpc/one.md) [two](#the-kit)' '[three](#the-kits)'
  page hpc/one.md '# One' '' '[up](../README.md) [itself](one.md#one) [gone](two.md) [out](../../x)'
  touch -- "$BATS_TEST_TMPDIR/x"
  mkdir -p -- "$BATS_TEST_TMPDIR/pages/venv"
  echo '# Alone' >"$BATS_TEST_TMPDIR/pages/venv/README.md"
  finds 'README.md:3: the link #the-kits: there is no such heading' \
    'hpc/one.md:3: the link ../README.md: adopt.sh does not copy that page into projects' \
    'hpc/one.md:3: the link two.md leads to nothing' \
    'hpc/one.md:3: the link ../../x leads out of the checkout' \
    'venv/README.md:1: README.md has no link to this page'
}

@test "pages that are too long" {
  local -a text
  mapfile -t text < <(seq 320)
  page README.md "${text[@]:0:259}"
  page hpc/README.md "${text[@]}"
  finds
  page hpc/README.md "${text[@]}" 321
  finds 'README.md:261: 261 lines; a page here has at most 260' 'hpc/README.md:321: 321 lines; a page here has at most 320'
}

@test "commands, modules, options and pages that do not exist" {
  page README.md '# The kit' '| `bash hpc/gone.sh` | goes |' 'Give `--loudly`, or `bash hpc/greet.sh --quiet`.' '```' "bash hpc/greet.sh --loud \\" '  --soft' \
    'python -m train.gone' '```'
  page hpc/greet.sh 'echo "see hpc/greet/README.md"'
  finds 'README.md:2: there is no hpc/gone.sh' 'README.md:3: no source has the option --loudly' \
    'README.md:3: hpc/greet.sh has no option --quiet' 'README.md:5: hpc/greet.sh has no option --soft' \
    'README.md:7: there is no module train.gone' 'hpc/greet.sh:1: there is no page hpc/greet/README.md'
}

@test "the pages of this checkout" {
  local command name names submitter
  cd -- "$project"
  option_table::define
  submitter=$(for name in "${options_order[@]}"; do options::shown_names "$name" && echo; done)
  for command in hpc/*.sh venv/create.sh singularity/build.sh tests/run.sh tests/*/run.sh tests/faults/random.sh; do
    names=$({ bash "$command" --help && bash "$command" --help all; } 2>&1 || true) # some have only --help
    # These commands pass options on to the submitter.
    if [[ $command == hpc/@(job_submitter|drill|sweep|train).sh ]]; then names+=$submitter; fi
    printf '%s %s\n' "$command" "$(grep -oE -- '--[a-z][a-z0-9_-]*' <<<"$names" | sort -u | paste -sd ' ')"
  done >"$BATS_TEST_TMPDIR/options"
  python3 "$BATS_TEST_DIRNAME/pages.py" "$project" "$BATS_TEST_TMPDIR/options"
}
