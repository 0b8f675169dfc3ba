# shellcheck shell=bash
# What a program opens and reads below a folder, as strace sees it. Runs strace at the calls that matter only
# (--seccomp-bpf), or 50,000 files would take minutes.

# tracing::run FILES COMMAND...   A file of calls for each thread: FILES.PID
tracing::run() {
  strace --follow-forks --output-separately --seccomp-bpf --quiet=all --signal=none --decode-fds=path \
    --string-limit=0 --trace=open,openat,openat2,read,readv,pread64,preadv,copy_file_range,sendfile,splice,mmap \
    --output="$1" "${@:2}"
}

# tracing::sum_up FOLDER FILE...   OPENS BYTES below FOLDER. What is mapped counts as read.
tracing::sum_up() {
  LC_ALL=C awk -v folder="$1/" '
    function below(path) { return index(path, "<" folder) == 1 }
    /^open/ { if (match($0, /<[^<>]*>$/) && below(substr($0, RSTART))) opens++; next }
    # The first descriptor of a call is the one that is read, except the second of sendfile.
    /^sendfile/ { sub(/<[^<>]*>/, "") }
    !match($0, /<[^<>]*>/) || !below(substr($0, RSTART)) { next }
    /^mmap/ { split($0, argument, ", "); bytes += argument[2]; next }
    $NF > 0 { bytes += $NF }
    END { printf "%d %.0f\n", opens, bytes }' "${@:2}"
}
