# shellcheck shell=bash
# Owns accounting (--accounting): a MariaDB with its own folder and socket, without network and password, which only its
# owner can reach, and the slurmdbd that keeps the jobs' records in it.

declare -gA cluster

accounting::port() {
  printf '%s\n' "$((cluster["port"] + 250))" # in the cluster's block of ports, after the nodes'
}

accounting::socket() {
  printf '%s\n' "${cluster[slurm_dir]}/database/socket"
}

# Prints the lines of slurm.conf. The `password` is the socket of munge.
accounting::of_slurm() {
  cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$(network::address login)
AccountingStoragePort=$(accounting::port)
AccountingStoragePass=${cluster[slurm_dir]}/munge/socket
CONF
}

# slurmdbd requires a file that nobody else can read.
accounting::configure() {
  local -r base=${cluster[slurm_dir]} file=${cluster[dir]}/etc/slurmdbd.conf
  (
    umask 077
    common::write_atomically "$file" <<CONF
AuthType=auth/munge
AuthInfo=socket=$base/munge/socket
DbdHost=$(cluster::host_name)
DbdAddr=$(network::address login)
DbdPort=$(accounting::port)
SlurmUser=$(id -un)
LogFile=$base/log/slurmdbd.log
PidFile=$base/state/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$(id -un)
StorageLoc=slurm_accounting
CONF
  )
}

# Settings for a small and fast database, which is not safe from a power cut.
accounting::start_database() {
  # Debian's script cannot handle spaces.
  local -r folder=${cluster[slurm_dir]}/database log=${cluster[dir]}/log/database.out
  local socket
  socket=$(accounting::socket)
  if [[ ! -e $folder/complete ]]; then
    rm -rf -- "$folder"
    mkdir -m 700 -- "$folder"
    mariadb-install-db --no-defaults --datadir="$folder/data" --user="$(id -un)" \
      --auth-root-authentication-method=normal --skip-test-db >"$log" 2>&1 ||
      processes::die_with_log database 'mariadb-install-db failed'
    : >"$folder/complete"
  fi
  processes::start database mariadbd --no-defaults --datadir="$folder/data" --user="$(id -un)" --socket="$socket" \
    --pid-file="$folder/pid" --skip-networking --skip-grant-tables --skip-log-bin --innodb-buffer-pool-size=64M \
    --innodb-log-file-size=16M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900
  processes::wait_for database mariadb-admin --no-defaults --socket="$socket" ping
  # slurmdbd creates it too, but through a connection that was refused first; with libmariadb 11.8.9 such a connection reads no rows.
  mariadb --no-defaults --socket="$socket" --execute='CREATE DATABASE IF NOT EXISTS slurm_accounting'
}

# Only this variable tells the library of slurmdbd where the socket is.
accounting::start_slurmdbd() {
  processes::start slurmdbd env MYSQL_UNIX_PORT="$(accounting::socket)" slurmdbd -D
  processes::wait_for slurmdbd cluster::slurm sacctmgr --noheader show cluster
  # The controller exits if its cluster is not in the database.
  cluster::slurm sacctmgr --immediate add cluster "${cluster[shape]:-pocket}" >/dev/null 2>&1 || true
}
