#!/usr/bin/env bats
# The allowed values of options (hpc/lib/checks.sh).

source "$BATS_TEST_DIRNAME/../helpers.bash"

setup() {
  use_libraries common checks
}

# accepted KIND VALUE..., refused KIND VALUE...
accepted() {
  local -r kind=$1
  local value
  shift
  for value in "$@"; do checks::accept "$kind" "$value" --option; done
}

refused() {
  local -r kind=$1
  local value
  shift
  for value in "$@"; do
    fails_with 2 '^[^ ]+: error: --option: ' checks::accept "$kind" "$value" --option
    [[ $stderr == *"${value@Q}"* ]]
  done
}

@test "all forms of a Slurm time, in seconds" {
  local form seconds
  while read -r form seconds; do
    [[ $(checks::seconds "$form") == "$seconds" ]]
  done <<'TIMES'
1 60
30 1800
0090 5400
24:00 1440
0:30 30
90:15 5415
1:00:00 3600
12:00:00 43200
00:00:01 1
08:09:09 29349
100:00:00 360000
2-0 172800
2-12 216000
0-1 3600
1-06:30 109800
1-06:30:15 109815
08-08:08:08 720488
365-00:00:00 31536000
TIMES
}

@test "invalid times" {
  local value
  refused duration '' banana 0 00:00 0:0:0 0-0 -1 -5:00 1- -1-1 1:2:3:4 : :30 30: 1::2 1.5 1h 30m 1-2-3 1-:30 ' 30' \
    '30 ' '1 2' 1e3 0x10 '$(touch x)' 'a[$(touch x)]' $'30\n' UNLIMITED 99999999999 '٣'
  # Numbers that arithmetic would misread or that overflow.
  for value in 'a' 'SECONDS' '999999999-999999999' '9999999999:00'; do
    run ! checks::seconds "$value"
  done
}

@test "times as Slurm gets them" {
  [[ $(checks::duration 1) == 0-00:00:01 ]]
  [[ $(checks::duration 1440) == 0-00:24:00 ]]
  [[ $(checks::duration 109815) == 1-06:30:15 ]]
  [[ $(checks::duration 8640000) == 100-00:00:00 ]]
}

@test "a time's canonical form is the same time" {
  local seconds
  for seconds in 1 59 60 3599 3600 86399 86400 123456789; do
    [[ $(checks::seconds "$(checks::duration "$seconds")") == "$seconds" ]]
  done
}

@test "units of memory, in megabytes" {
  local form megabytes
  while read -r form megabytes; do
    checks::accept memory "$form" --mem
    [[ $(checks::megabytes "$form") == "$megabytes" ]]
  done <<'AMOUNTS'
1 1
512 512
512M 512
512m 512
512MB 512
10G 10240
10g 10240
10GB 10240
10Gb 10240
010G 10240
1T 1048576
2TB 2097152
1K 1
1024K 1
1025K 2
2048kb 2
64B 64
AMOUNTS
}

@test "invalid amounts of memory" {
  refused memory '' 0 0G -1 -1G 1.5G G 10X 10GG 10GiB '10 G' 1e3 lots '$(id)' $'10G\n' '10G;id' 99999999999G
}

@test "counts" {
  accepted count 0 1 08 4 999999
  accepted positive 1 08 010 999999
  refused count '' -1 x 1.0 1e3 ' 1' '1 ' +1 0x1 1000000 $'1\n' '1;id' 'a[$(id)]' '١'
  refused positive '' 0 00 -1 x 1000000 $'1\n'
}

@test "names of folders" {
  local long
  printf -v long '%0101d' 0
  accepted name a A.b_c-d+e 'two words' 3 .hidden _x "${long:1}"
  refused name '' . .. -x / a/b ../x ' a' a$'\n'b $'a\n' a$'\t'b '$(id)' 'a;b' "it's" '"' '*' a:b a,b '%j' "\\" "$long"
}

@test "texts and paths" {
  accepted text a 'two words' "it's" '$(id)' '*' ü --x ' '
  refused text '' $'a\nb' $'a\tb' $'\e[31m' $'\x7f'
  accepted path a /b 'c d' -e $'f\ng'
  fails_with 2 '--option: an empty path$' checks::accept path '' --option
}

@test "choices" {
  accepted 'choice red green' red green
  refused 'choice red green' '' Red redd 'red green' '*' 'r*'
  fails_with 2 'is none of: red, green$' checks::accept 'choice red green' blue --option
}
