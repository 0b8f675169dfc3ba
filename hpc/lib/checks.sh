# shellcheck shell=bash
# Checks the values of options. checks::accept KIND VALUE WHAT exits with status 2 and one clear line if VALUE is not of KIND;
# the message calls the value WHAT. The converters print a canonical form, or assign it to a variable, which needs no
# extra process.

checks::accept() {
  local -r kind=${1%% *} choices=${1#* } value=$2 what=$3
  local choice
  case $kind in
    count) [[ $value =~ ^[0-9]{1,6}$ ]] || common::die_usage "$what: ${value@Q} is not a whole number (0, 1, 2, …)" ;;
    positive) [[ $value =~ ^0*[1-9][0-9]{0,5}$ ]] || common::die_usage "$what: ${value@Q} is not a whole number from 1 up" ;;
    memory)
      [[ $value =~ ^0*[1-9][0-9]{0,9}[KMGTkmgt]?[Bb]?$ ]] ||
        common::die_usage "$what: ${value@Q} is not an amount of memory: write it like 10G or 512M"
      ;;
    node_memory) if [[ ! $value =~ ^0+[KMGTkmgt]?[Bb]?$ ]]; then checks::accept memory "$value" "$what"; fi ;;
    duration)
      checks::seconds "$value" >/dev/null ||
        common::die_usage "$what: ${value@Q} is not a time: write it like 30 (minutes), 12:00:00, 2-12 (days-hours) or 1-06:30:00"
      ;;
    name)
      # A run without a name has that of its run directory, with the name of the project, which may have any character.
      [[ $value =~ ^[[:alnum:]_.+-][[:alnum:]_.+\ -]*$ && $value != . && $value != .. && $value != -* && ${#value} -le 100 ||
        $value =~ ^[^/[:cntrl:].-][^/[:cntrl:]]*_[0-9]{8}-[0-9]{6}_[0-9]+$ ]] ||
        common::die_usage "$what: ${value@Q} cannot name a folder: use letters, digits, '_', '.', '+', '-' and inner spaces, at most 100"
      ;;
    text)
      [[ -n $value && $value != *[[:cntrl:]]* ]] ||
        common::die_usage "$what: ${value@Q} is empty or has control characters"
      ;;
    cycles)
      [[ $value =~ ^[1-9][0-9]{0,2}x[1-9][0-9]{0,4}$ || $value == none ]] ||
        common::die_usage "$what: ${value@Q} is not CYCLESxSECONDS: write it like 5x90"
      ;;
    job)
      [[ $value =~ ^[1-9][0-9]{0,9}(_[0-9]{1,7})?$ || $value == mine ]] ||
        common::die_usage "$what: ${value@Q} is no job id: squeue -u \$USER lists yours"
      ;;
    optional) checks::accept "${1#optional }" "$value" "$what" ;;
    path) [[ -n $value ]] || common::die_usage "$what: an empty path" ;;
    choice)
      for choice in $choices; do
        if [[ $value == "$choice" ]]; then return; fi
      done
      common::die_usage "$what: ${value@Q} is none of: ${choices// /, }"
      ;;
    *) common::die "no such check: $kind" ;;
  esac
}

# checks::placeholder KIND [VARIABLE]   Prints the word that help shows for a value, with a space before it.
checks::placeholder() {
  local checks_word=${1#optional }
  case $checks_word in
    flag) checks_word='' ;;
    list) checks_word='PATH…' ;;
    count | positive) checks_word=N ;;
    memory | node_memory) checks_word=SIZE ;;
    duration) checks_word=TIME ;;
    text\ all) checks_word=TOPIC ;; # of --help
    cycles\ *) checks_word=CYCLESxSECONDS ;;
    choice\ *) checks_word=${checks_word#choice } checks_word=${checks_word// /|} ;;
    *) checks_word=${checks_word%% *} checks_word=${checks_word^^} ;;
  esac
  if [[ $1 == optional\ * ]]; then checks_word="[$checks_word]"; fi
  common::give "${checks_word:+ $checks_word}" "${2:-}"
}

# checks::seconds TIME [VARIABLE]   Converts a Slurm time (man sbatch, --time) to seconds. Status 1 if TIME is not a Slurm time.
# MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS
checks::seconds() {
  local checks_days=0 checks_hours=0 checks_minutes=0 checks_seconds=0
  [[ $1 =~ ^([0-9]{1,6}-)?[0-9]{1,9}(:[0-9]{1,9}){0,2}$ ]] || return 1
  if [[ $1 == *-* ]]; then
    checks_days=${1%%-*}
    IFS=: read -r checks_hours checks_minutes checks_seconds <<<"${1#*-}"
  elif [[ $1 == *:*:* ]]; then
    IFS=: read -r checks_hours checks_minutes checks_seconds <<<"$1"
  else
    IFS=: read -r checks_minutes checks_seconds <<<"$1"
  fi
  checks_seconds=$((((10#$checks_days * 24 + 10#$checks_hours) * 60 + 10#${checks_minutes:-0}) * 60 + 10#${checks_seconds:-0}))
  ((checks_seconds > 0)) || return 1
  common::give "$checks_seconds" "${2:-}"
}

# checks::duration SECONDS [VARIABLE]   D-HH:MM:SS
checks::duration() {
  local checks_duration
  printf -v checks_duration '%d-%02d:%02d:%02d' $(($1 / 86400)) $(($1 / 3600 % 24)) $(($1 / 60 % 60)) $(($1 % 60))
  common::give "$checks_duration" "${2:-}"
}

# checks::megabytes MEMORY [VARIABLE]   Slurm's unit is the megabyte of 1,048,576 bytes; kilobytes are rounded up.
checks::megabytes() {
  local checks_value=${1%[Bb]}
  checks_value=${checks_value^^}
  local -i checks_megabytes=10#${checks_value%[KMGT]}
  case $checks_value in
    *K) checks_megabytes='(checks_megabytes + 1023) / 1024' ;;
    *G) checks_megabytes='checks_megabytes * 1024' ;;
    *T) checks_megabytes='checks_megabytes * 1024 * 1024' ;;
  esac
  common::give "$checks_megabytes" "${2:-}"
}
