# shellcheck shell=bash
# Prints what a program opens and reads below a folder, as strace sees it. strace stops only at the calls that matter (--seccomp-bpf);
# otherwise 50,000 files would take minutes.

# tracing::run FILES COMMAND...   Writes a file of calls for each thread: FILES.PID
tracing::run() {
  strace --follow-forks --output-separately --seccomp-bpf --quiet=all --signal=none --decode-fds=path \
    --string-limit=0 --trace=open,openat,openat2,read,readv,pread64,preadv,copy_file_range,sendfile,splice,mmap \
    --output="$1" "${@:2}"
}

# tracing::sum_up FOLDER FILE...   Prints OPENS BYTES below FOLDER. Mapped bytes count as read.
tracing::sum_up() {
  LC_ALL=C awk -v folder="$1/" '
    function below(path) { return index(path, "<" folder) == 1 }
    /^open/ { if (match($0, /<[^<>]*>$/) && below(substr($0, RSTART))) opens++; next }
    # A call reads from its first descriptor; sendfile reads from its second.
    /^sendfile/ { sub(/<[^<>]*>/, "") }
    !match($0, /<[^<>]*>/) || !below(substr($0, RSTART)) { next }
    /^mmap/ { split($0, argument, ", "); bytes += argument[2]; next }
    $NF > 0 { bytes += $NF }
    END { printf "%d %.0f\n", opens, bytes }' "${@:2}"
}
