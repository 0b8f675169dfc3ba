"""Rules of why.py for known messages. The form is that of why_rules.py; the first rule that fits counts.

The messages are searched in the chain of exceptions that came first, from its last exception to its causes. Without an
exception they are searched in the lines of the log that report an error.
"""

from why_rules import CRASHED, ENDED, INDEX, Rule

SAID = (
    Rule(
        "data not staged",
        r"error: (?P<error>.*(?:no space on .*: the data (?:need|are)|does not arrive as it was packed"
        r"|its archive .* is gone|cannot mount |can neither mount an image).*)",
        "the data of --data did not come to a node's disk: {error}",
        "do as it says, then submit again",
        cause=ENDED,
    ),
    Rule(
        "loader worker killed",
        r"DataLoader worker .* (?:is killed by signal: (?P<error>[^.\n]*)|exited unexpectedly)"
        r"|Unexpected bus error encountered|unable to (?:write to|allocate shared memory\(shm\) for) file </torch_"
        r"|Pin memory thread exited|(?:/dev/shm|/torch_)\S*.*No space left|No space left.*/dev/shm",
        "a loader's worker of {who} died{error}: the node's memory, or its /dev/shm, was too small",
        "{again} --mem {more_memory}   or take fewer workers",
    ),
    Rule(
        "too many open files",
        r"Too many open files|received 0 items of ancdata",
        "{who} had more files open than its limit allows (ulimit -n)",
        "take fewer loader workers, or torch.multiprocessing.set_sharing_strategy('file_system') in the program; the "
        "kit raises the limit to the site's hard one: if that is low, ask the site's support",
        cause=ENDED,
    ),
    Rule(
        "shared memory",
        r"creating shared memory segment|shm_open|unable to (?:open|mmap) shared memory",
        "{who} could not get shared memory (/dev/shm of the node is full or small)",
        "take fewer loader workers, or torch.multiprocessing.set_sharing_strategy('file_system'); NCCL_SHM_DISABLE=1 "
        "in .env where NCCL says it; what an earlier job left in /dev/shm the site's support can remove",
    ),
    Rule(
        "disk full",
        r"No space left on device|Disk quota exceeded|PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+"
        r"|basic_ios::clear: iostream error|file write failed|ENOSPC|EDQUOT|requested and \d+ written|disk is full"
        r"|[Ee]rrno[ :=]*(?:28|122)\b",
        "a disk is full, or a quota is reached ({who}): {error}{file}",
        "{full}. Make room: old checkpoints and archives in {scratch}; the site's quota command (quota -s, lfs quota) "
        "and df -h tell whose limit it is, df -i and the quota of files when their number is it. Then  {again}",
        cause=ENDED,
    ),
    Rule(
        "read-only file system",
        r"Read-only file system",
        "{who} wrote where nobody may write: {error}{file}",
        "write below OUTPUT_PATH, CHECKPOINT_DIRECTORY or SLURM_TMPDIR: in a container the image and what is not "
        "mounted for writing are read-only; then submit again",
        cause=ENDED,
    ),
    Rule(
        "file system",
        r"Stale file handle|Input/output error|[Tt]ransport endpoint|Remote I/O error|[Ee]rrno[ :=]*(?:5|10[78]|116"
        r"|121)\b",
        "the file system failed under {who}: {error}{file}",
        "{again}   and if it comes again, tell the site's support: which path, which node, when",
        cause=ENDED,
    ),
    Rule(
        "GPU out of memory",
        r"out of memory\. Tried to allocate (?P<wanted>[\d.]+ \w+).*(?:Process \d+ has.*rocess (?:\d+ )?has"
        r"|this process has.*Process \d+ has)|CUDA error: out of memory|Cuda failure (?:\d+ )?'out of memory'",
        "{who} found its GPU full{wanted}: other ranks or programs hold memory of it, or the program has taken all",
        "each rank needs a GPU of its own: call torch.cuda.set_device(int(os.environ['LOCAL_RANK'])) before the first "
        "tensor, load with torch.load(…, map_location='cpu'), ask for as many --gpus as ranks on a node, and keep the "
        "model out of loader workers. If it failed after the first batch, take a smaller batch: CUDA and NCCL need 1 "
        "to 2 GB beside torch's. nvidia-smi on {node} shows which programs hold the memory; then submit again",
    ),
    Rule(
        "GPU out of memory",
        r"(?:CUDA|HIP|Cuda failure) (?:error: |\d+ |')*out of memory(?:\. Tried to allocate (?P<wanted>[\d.]+ \w+))?"
        r"|OutOfMemoryError|_STATUS_(?:ALLOC_FAILED|NOT_INITIALIZED)|RESOURCE_EXHAUSTED|ResourceExhausted"
        r"|cudaErrorMemoryAllocation|less than desired GPU memory|No available memory for the cache",
        "{who} asked for more memory than its GPU has{wanted}",
        "take a smaller batch and accumulate gradients, activation checkpointing, FSDP, or larger GPUs (--gpu-type); "
        "where much is reserved and not used: PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True in .env",
    ),
    Rule(
        "start method",
        r"start a new process before the|Cannot re-initialize CUDA in forked subprocess"
        r"|daemonic processes are not allowed|CUDA error: initialization error|context has already been set",
        "{who} started processes in a way that does not work here: {error}",
        "start them under  if __name__ == \"__main__\":  alone, by the 'spawn' start method where they use CUDA "
        "(multiprocessing_context='spawn' of a DataLoader), or keep CUDA out of the loader's workers; then submit "
        "again",
    ),
    Rule(
        "missing file",
        r"Dataset not found|\bdownload=True|is not present in the root directory or is corrupted|use download ?= ?True"
        r"|NLTK Downloader|Can't find model '",
        "{who} found no data where it looked, or not all of them: {error}{file}",
        "does the path exist on the nodes (write it in full, or stage the data with --data), and does it hold the "
        "folders that the class expects? If the data are not there yet, download them once on a login node "
        "(download=True) to a folder below the scratch: nodes mostly do not reach the internet. Then submit again",
    ),
    Rule(
        "checkpoint mismatch",
        r"loaded state dict (?:contains|has)|when resuming an optimizer",
        "the optimizer's state that {who} loaded is of other parameters: {error}",
        "build the optimizer over the same parameters, in the same groups and order, as when it was saved: freeze, "
        "add and wrap layers (LoRA, FSDP) before it is built. To fine-tune another model, load the weights of the "
        "model alone and begin with a new optimizer, or name another checkpoint (--fresh starts from the "
        "beginning); then submit again",
    ),
    Rule(
        "checkpoint mismatch",
        r"Error\(s\) in loading state_dict|size mismatch for \S+: copying|Missing key\(s\) in state_dict"
        r"|Unexpected key\(s\)|Size mismatch between saved|key in checkpoint|ignore_mismatched_sizes",
        "the checkpoint that {who} loaded is of another model: {error}",
        "build the model with the options that the checkpoint was made with, or name another checkpoint (--fresh "
        "starts from the beginning). If all keys differ by 'module.', it was saved from DistributedDataParallel: save "
        "model.module.state_dict()",
    ),
    Rule(
        "missing library",
        r"""version `?[\"']?(?:GLIBC|GLIBCXX|CXXABI)\S* not found|Illegal instruction""",
        "a compiled package of {who} is for a newer system or another processor than the node has: {error}",
        "take an older release of the package, build it on the cluster (pip install --no-binary), or run in a "
        "container",
    ),
    Rule(
        "missing library",
        r"undefined symbol",
        "a compiled package of {who} does not fit the other packages, mostly torch: {error}",
        "build or install it again for the torch that is there:  {install}  after its version was changed "
        "in the requirements; then submit again",
    ),
    Rule(
        "missing library",
        r"lib(?:GL|gthread-2\.0|SM|Xext|Xrender)\.so\S*: cannot open shared",
        "{who} imported OpenCV as it is made for screens, and the node has no library for these: {error}",
        "put opencv-python-headless in place of opencv-python into the requirements (no other package may bring "
        "opencv-python again: pip list), then  {install} ; or load a module of the site that has libGL in "
        "node_setup of the profile; in a container install libgl1 and libglib2.0-0; then submit again",
    ),
    Rule(
        "missing library",
        r"cannot open shared object file|Library not loaded",
        "{who} needs a library that is not there: {error}",
        "if a package brings it, install that again ({install}); if a module of the site does, load it in "
        "node_setup of the profile (LD_LIBRARY_PATH); then submit again",
    ),
    Rule(
        "import error",
        r"[Nn]umpy is not available|module that was compiled using NumPy 1|numpy\.\w+ size changed"
        r"|module 'numpy' has no attribute|No module named '?numpy",
        "{who} needs numpy, and the environment has none, or one of a version that the other packages do not fit",
        "add numpy to the project's requirements (numpy<2 for packages that were built before it), then  "
        "{install}  and submit again",
    ),
    Rule(
        "import error",
        r"No module named '?(?P<module>train\.(?:checkpoint|distributed|environment|interruption|metrics|sampler)\b)",
        "{who} imports {module}, and `train` is the project's own here",
        "write  from hpc_train.checkpoint import …  and so on: adopt.sh installs the kit's package as hpc_train/ where "
        "the project has a train of its own; then submit again",
    ),
    Rule(
        "import error",
        r"No module named '?(?P<module>[^'.\s]+)",
        "the environment has no Python module {module} ({who})",
        "add the package of {module} to the project's requirements and run  {install} , then "
        "submit; if it is a module of the project: does git ignore it?",
    ),
    Rule(
        "import error",
        r"^\S*(?:Import|ModuleNotFound)Error: .*(?:n[o']t (?:seem to be |be )?(?:installed|found in your env)"
        r"|pip3? install|[Pp]lease install|optional dependency|requires the \S+ (?:library|package))",
        "a package is not installed ({who}): {error}",
        "add the package that it names to the project's requirements and run  {install} , then "
        "submit. One that compiles itself (flash-attn) needs torch and the site's CUDA module "
        "while it is built, or a ready wheel for this torch; else choose what needs no package "
        "(attn_implementation='sdpa')",
    ),
    Rule(
        "import error",
        r"partially initialized module|circular import",
        "modules of the project import each other ({who}): {error}",
        "move what both need into a third module, or import it inside of the function; has a file of the project the "
        "name of a package? Then submit again",
    ),
    Rule(
        "syntax error",
        r"\b(?:SyntaxError|IndentationError|TabError): ",
        "Python cannot read the program ({who}): {error}",
        "mend the line that it names (does the node's Python have that syntax?), then submit again",
    ),
    Rule(
        "file system",
        r"unable to lock file|LockError|[Nn]o locks available|lock.*(?:not supported|temporarily unavailable)"
        r"|file lock .* could not be acquired|database is locked",
        "{who} could not lock a file, which many shared file systems do not allow: {error}",
        "open it without locks (HDF5_USE_FILE_LOCKING=FALSE in .env, lmdb.open(…, lock=False)), let one rank alone "
        "write it, or read a copy on each node's disk (--data); then submit again",
        cause=ENDED,
    ),
    Rule(
        "too many processes",
        r"can't start new thread|OMP: Error #34|Thread creation failed|fork: (?:retry|Resource)|pthread_create failed"
        r"|Cannot fork|unable to create new (?:native )?thread|Errno 11\] Resource temporarily",
        "{who} wanted more processes or threads than it may have (ulimit -u, or the site's limit)",
        "take fewer loader workers, set OMP_NUM_THREADS=1 and OPENBLAS_NUM_THREADS=1 in .env, or ask for fewer "
        "processes a node; then submit again",
        cause=ENDED,
    ),
    Rule(
        "GPU number",
        r"invalid device ordinal|Duplicate GPU detected|device >= 0 && device < num_gpus",
        "{who} asked for a GPU by a number that it does not see, or that another rank has",
        "where each rank is shown one GPU alone, or one MIG slice, that is cuda:0: take LOCAL_RANK % "
        "torch.cuda.device_count(); else do --gpus and the program's own number of processes agree?",
    ),
    Rule(
        "no GPU",
        r"not compiled with (?:CUDA|HIP)|Attempting to deserialize object on a CUDA device|No (?:CUDA"
        r"|HIP) GPUs are available|No supported gpu backend|no (?:CUDA|ROCm)-capable device|Found no NVIDIA driver"
        r"|no GPUs found|No GPU found|CUDA driver initialization failed|CUDA (?:is )?not available"
        r"|is_available\(\) (?:should be|returned)|Unable to initialize backend 'cuda'",
        "{who} found no GPU: {error}",
        "ask for them: --gpus N (and a partition that has some). With --gpus: CUDA_VISIBLE_DEVICES in .env or in the "
        "program, or an environment that was built for machines without ({install} on a machine of the "
        "cluster; is the profile's CUDA right?). Without GPUs, read checkpoints with map_location='cpu'; then submit "
        "again",
    ),
    Rule(
        "GPU driver",
        r"driver on your system is too old|driver version is insufficient|[Ff]orward compatibility was attempted"
        r"|driver/library version mismatch|unsupported (?:display )?driver"
        r"|provided PTX was compiled with an unsupported",
        "the node's GPU driver is older than the CUDA of the environment ({who}): {error}",
        "take a torch for an older CUDA ({install} for the profile's CUDA, or another container); the "
        "driver is the site's: sinfo and its pages tell which nodes have a newer one",
    ),
    Rule(
        "GPU not supported",
        r"no kernel image is available|is not compatible with the current PyTorch installation|only supports (?:Ampere"
        r"|Hopper|Volta)|requires (?:a )?(?:GPU|device) with compute capability|kernel image is invalid"
        r"|not a recognized processor|for option 'gpu-name'|requires \.target sm_",
        "the packages have no code for this type of GPU ({who}): {error}",
        "ask for another type (--gpu-type), or install versions that know it; packages that were compiled here must "
        "be compiled for it (TORCH_CUDA_ARCH_LIST)",
    ),
    Rule(
        "broken GPU",
        r"uncorrectable (?:ECC|NVLink)|fallen off the bus|NVRM: Xid|(?:CUDA error: "
        r"|Cuda failure (?:\d+ )?')(?:unknown error|all CUDA-capable devices are busy|hardware)"
        r"|is/are busy or unavailable|system not yet initialized|Unable to determine the device handle|NVLink error"
        r"|CUDA unknown error|Failed to initialize NVML: Unknown",
        "a GPU of {node} is broken, or another program holds it: {error}",
        "submit again with  --exclude {node}   and tell the site's support",
    ),
    Rule(
        "device-side assert",
        r"device-side assert|Assertion `.*` failed",
        "a kernel on the GPU of {who} was given a value that it does not allow, mostly an index: a label or a token "
        "that is not below the number of classes or words, a position beyond the model's length",
        "look at the line `Assertion …` above it: nll_loss means a label, indexSelect or gather a token or a position, "
        f"input_val a loss over numbers that are not in 0 to 1; {INDEX}. CUDA_LAUNCH_BLOCKING=1 in .env, or the CPU, "
        "shows the line of the program. Mend that, then submit again",
    ),
    Rule(
        "illegal memory access",
        r"illegal memory access|misaligned address|unspecified launch failure|illegal instruction was encountered",
        "a kernel on the GPU of {who} read or wrote where it may not: an error in a compiled package, or in the "
        "program's own kernel",
        "run it with CUDA_LAUNCH_BLOCKING=1 to see the call; try other versions of the packages; if it is always "
        "{node}: --exclude {node}",
    ),
    Rule(
        "GPU library",
        r"CUDA error: |CUDA driver error|hipError|Triton Error \[|CU(?:DNN|BLAS|SPARSE|FFT|SOLVER"
        r"|RAND)_(?:STATUS_)?\w*|unable to find an engine|cuDNN error|cuBLAS error|DNN library initialization"
        r"|MIOpen Error",
        "a call to the GPU, or to a library for it, failed under {who}: {error}",
        "mostly no memory of the GPU is left (a smaller batch tells), the packages are of different CUDA versions "
        "({install}; no LD_LIBRARY_PATH to another), or an index before it was wrong "
        "(CUDA_LAUNCH_BLOCKING=1 in .env shows the call). If it is always {node}: --exclude {node}; then submit again",
    ),
    Rule(
        "versions differ",
        r"Mismatched NCCL version|NCCL version mismatch|different (?:NCCL|PyTorch) versions",
        "the nodes run different versions: {error}",
        "all ranks must have the same environment: one --environment or container for all nodes, and no "
        "LD_LIBRARY_PATH or LD_PRELOAD in ~/.bashrc that leads to another NCCL; then submit again",
    ),
    Rule(
        "missing script",
        r"can't open file '(?P<error>[^']+)'|Cannot find file: (?P<other>\S+)",
        "Python found no program {error} ({who})",
        "correct the line of the configuration file: its paths begin in the project, or in --chdir; is the file known "
        "to git, or ignored? Then submit again",
    ),
    Rule(
        "wrong arguments",
        r"error: unrecognized arguments: .*--local[-_]rank\S*|No such option:? '?--local[-_]rank",
        "the old launcher (torch.distributed.launch, deepspeed) gave {who} --local-rank, which the program does not "
        "know: {error}",
        "let the kit start the ranks (-W torchrun, and no launcher in the program's line), and read the rank with "
        "int(os.environ['LOCAL_RANK']). With that launcher: parser.add_argument('--local-rank', '--local_rank', "
        "type=int); then submit again",
    ),
    Rule(
        "wrong arguments",
        r"error: (?:argument |unrecognized|the following arguments|ambiguous option|invalid choice"
        r"|.*arguments are required)|No such option|Missing (?:option|argument|parameter)|unexpected extra argument"
        r"|Unknown command line flag|Got unexpected argument|No such command|^[Uu]sage: ",
        "{who} did not understand its command line: {error}",
        "correct the line of the configuration file, and submit again",
    ),
    Rule(
        "launcher",
        r"srun: error: .*(?:Unable to create step|[Ll]aunch .*failed|Unable to confirm)|Host key verification failed"
        r"|\(publickey|ssh: connect to host|pdsh@",
        "no process could be started on a node ({who}): {error}",
        "let the kit start the ranks (-W torchrun or -W srun): a program's own srun must ask for no more than the job "
        "has, and ssh to nodes is not needed. Does it name a node? Exclude it (--exclude NODE); then submit again",
        cause=ENDED,
    ),
    Rule(
        "module",
        r"module: (?:command )?not found|Lmod has detected the following error|Unable to locate a modulefile"
        r"|module\(s\) are unknown|ModuleCmd_Load",
        "a module of the site could not be loaded on the node ({who}): {error}",
        "load modules in node_setup of the profile, not in the program's line, by names that `module spider` knows; "
        "then submit again",
        cause=ENDED,
    ),
    Rule(
        "cannot execute",
        r"bad interpreter|required file not found|Exec format error|cannot execute binary file",
        "the node cannot execute a file: {error} ({who})",
        "does its first line name an interpreter that the nodes have, without Windows line ends (sed -i 's/\\r$//' "
        "FILE)? Is a binary for this machine (uname -m)? Then submit again",
        cause=ENDED,
    ),
    Rule(
        "cannot execute",
        r": Permission denied$",
        "the node may not execute the command: {error} ({who})",
        "chmod +x the file (and git add --chmod=+x), or write its interpreter before it: bash FILE, python FILE; then "
        "submit again",
        cause=r"^failed 126",
    ),
    Rule(
        "environment",
        r"(?:conda|mamba) init|modify the parent shell|EnvironmentNameNotFound|Could not find conda environment"
        r"|EnvironmentLocationNotFound|CommandNotFoundError|configured to use 'conda|(?:conda"
        r"|activate): (?:command not found|No such file)|(?:source|activate): not found|init_fs_encoding",
        "the environment could not be entered on the node ({who}): {error}",
        "the environment was not entered, so that another Python ran: name it by --environment FOLDER in place of  "
        "conda activate  in the line; then submit again",
    ),
    Rule(
        "command not found",
        r"execve\(\): (?P<error>\S+: No such file or directory)|^env: (?P<other>.*: No such file or directory)",
        "the command is not there on the node ({who}): {error}",
        "correct the line of the configuration file, or install the program in the environment",
    ),
    Rule(
        "command not found",
        r"(?P<error>[^:\n]+: (?:command not found|No such file or directory))",
        "the command is not there on the node ({who}): {error}",
        "correct the line of the configuration file, or install the program in the environment",
        cause=r"^failed 127",
    ),
    Rule(
        "container",
        r"^(?:FATAL|ERROR|ABORT) *: +\S|container creation failed|pyxis: .*(?:failed|couldn't|unable)|while (?:loading"
        r"|mounting) image",
        "the container did not start ({who}): {error}",
        "does the image exist where the nodes see it, and what it wants to mount (--container, the profile's mounts)? "
        "Try it by  bash singularity/run.sh  on a node; then submit again",
        cause=ENDED,
    ),
    Rule(
        "permission denied",
        r"PermissionError|Permission denied|Operation not permitted",
        "{who} may not read or write a file: {error}{file}",
        "whose is it (ls -ld of the file and its folders)? Write below OUTPUT_PATH, CHECKPOINT_DIRECTORY or the "
        "scratch, or ask its owner for the right; then submit again",
        cause=ENDED,
    ),
    Rule(
        "damaged file",
        r"PytorchStreamReader failed|failed finding central directory|Error while deserializing header"
        r"|invalid load key|pickle data was truncated|Ran out of input|BadZipFile|not a zip file|not a gzip"
        r"|CRC check failed|CRC-32|Compressed file ended|unexpected end of (?:data|file)|\btruncated\b"
        r"|UnidentifiedImageError|tarfile\.\w*Error: |invalid header or archive|is corrupt|Unsupported operand"
        r"|magic (?:bytes|number)|file signature not found|[Dd]ecompress|LZMAError|!_src\.empty\(\)"
        r"|JSON parse error: (?!Column)|CSV parse error|Could not open Parquet|[Nn]ot an Arrow file|Parquet file size",
        "{who} read a file that is damaged, or not what its name says: {error}{file}",
        "look at the file's size and first bytes: a checkpoint that was cut off while it was saved (name an older "
        "one), a copy or a download that did not end, or a page of HTML or a pointer of Git LFS in place of the data "
        "(git lfs pull); then submit again",
    ),
    Rule(
        "weights_only",
        r"Weights only load failed|Unsupported global: GLOBAL",
        "{who} could not read a checkpoint that holds more than tensors: torch.load allows only these by default "
        "since 2.6",
        "where you trust the file: torch.load(…, weights_only=False), or torch.serialization.safe_globals([…]) with "
        "the classes that it names; then submit again",
    ),
    Rule(
        "loopback address",
        r"connectFullMesh.*?\b(?P<error>127\.\d+\.\d+\.\d+)",
        "gloo listened at {error}, which the node's own name stands for, and no other node can reach that ({who})",
        "set site[interface] in the profile, or GLOO_SOCKET_IFNAME in .env, to the interface to the other nodes (ip "
        "address tells its name)",
    ),
    Rule(
        "address in use",
        r"EADDRINUSE|[Aa]ddress already in use",
        "the port that {who} wanted to listen at is taken, by another job or by what an earlier one left: {error}",
        "take no fixed port: the kit gives MASTER_PORT, free for each job; a program that sets it itself, or starts "
        "its own torchrun, takes 0 or a number made from SLURM_JOB_ID. With the kit's port:  {again}",
    ),
    Rule(
        "launcher",
        r"environment variable (?:RANK|WORLD_SIZE|MASTER_ADDR|MASTER_PORT) expected|^KeyError: '(?:LOCAL_|NODE_"
        r"|GROUP_)?(?:RANK|WORLD_SIZE|MASTER_ADDR|MASTER_PORT)'",
        "{who} was started without the variables of a rank: {error}",
        "let the kit start the ranks (-W torchrun or -W srun), and start none in the program's line; then submit again",
    ),
    Rule(
        "ranks did not meet",
        r"RendezvousTimeoutError|RendezvousConnectionError|client socket has (?:timed out|failed)"
        r"|server socket has failed|gai error|clients joined|Connection to the C10d store|DistStoreError"
        r"|DistNetworkError|Rendezvous.*timed out|waiting for (?:all )?(?:clients|nodes|workers)"
        r"|Cannot assign requested address|DEADLINE_EXCEEDED|failed to connect to all addresses",
        "the ranks did not meet at the head node: one was missing, late, or could not reach it ({who}): {error}",
        "did another rank fail before, or start late?  {logs} --rank R   Does the program take MASTER_ADDR and "
        "MASTER_PORT as they are set, with the kit's RANK and WORLD_SIZE? If all waited, it is the network: "
        "site[interface] in the profile. Then  {again}",
    ),
    Rule(
        "NCCL",
        r"(?P<error>ibv_\w+ .*(?:Cannot allocate memory|Resource temporarily|Bad address)|.*(?:RLIMIT_)?(?:MEMLOCK"
        r"|memlock).*)",
        "NCCL could not lock memory for InfiniBand ({who}): {error}",
        "the limit of locked memory is low on {node} (ulimit -l must be unlimited; Slurm passes on the login node's, "
        "unless the site excludes it): ask the site's support. NCCL_IB_DISABLE=1 in .env runs without InfiniBand, "
        "slower",
    ),
    Rule(
        "NCCL",
        r"(?P<error>.*(?:IBV_(?:WC|EVENT)_\w+|NET/IB.*(?:status=\d|[Aa]sync|[Ff]atal)).*)",
        "a transfer between nodes failed on InfiniBand or RoCE ({who}): {error}",
        "did the node at the other end, or a rank there, end before?  {logs} --rank R   If not, a link, adapter or "
        "switch is faulty: tell the site's support the node, adapter (hca) and peer of this line. On other nodes: "
        "submit again with  --exclude {node} ; NCCL_IB_TIMEOUT=22 in .env waits longer for a busy network",
    ),
    Rule(
        "NCCL",
        r"(?P<error>.*(?:[Nn]o socket interface found|Unable to find address for|[Nn]o (?:IB )?device found|ibv_\w+"
        r"|(?:NCCL|NET/|Bootstrap|socket\w+Connect).*(?:No such device|No route to host|is unreachable"
        r"|Connection (?:refused|timed out))).*)",
        "NCCL, or gloo, found no way to the other nodes ({who}): {error}",
        "set site[interface] in the profile, or NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME and NCCL_IB_HCA in .env, to "
        "names that all nodes have (ip address, ibstat); NCCL_DEBUG=INFO shows what it takes. Then  {again}",
    ),
    Rule(
        "NCCL",
        r"(?:nccl(?:SystemError|InternalError|UnhandledCudaError|Invalid\w+)|NCCL error.* (?:unhandled|internal"
        r"|invalid) \w+)(?s:.*Last error:\s+(?P<error>[^\n]+))?",
        "NCCL failed under {who}, not by a time-out: {error}",
        "NCCL_DEBUG=INFO in .env, and see the line NCCL WARN:  {logs} --rank R   Did another rank end before it? A "
        "system error is the network or a limit (site[interface] in the profile, NCCL_SOCKET_IFNAME, ulimit -l, "
        "/dev/shm), a CUDA error the GPU or its driver. On other nodes:  submit again with  --exclude {node}",
    ),
    Rule(
        "collective timed out",
        r"Watchdog caught collective operation timeout|watchdog got stuck|NCCL (?:error|timeout)|nccl\w+Error"
        r"|[Gg]loo.*[Tt]imed? ?out|Timed out waiting \d+ms|Connection (?:closed|reset) by (?:remote )?peer"
        r"|wait timeout after|Socket Timeout|connectFullMesh|got 0 bytes|monitoredBarrier|Horovod has been shut down",
        "the ranks did not reach each other: a collective of NCCL or gloo, or their meeting, timed out or lost its "
        "other end{waited}",
        "did one rank leave the others behind (uneven data, an exception, a branch of rank 0 alone)?  {logs} --rank "
        "{late}   If all waited, it is the network: site[interface] in the profile, or NCCL_SOCKET_IFNAME in .env, "
        "NCCL_DEBUG=INFO, other nodes (--exclude {node})",
    ),
    Rule(
        "W&B",
        r"(?:wandb[.:]|CommError|W&B).*(?:\b40[34]\b|permission denied|PERMISSION_ERROR|CommError.* not found)"
        r"|\b40[34]\b.*//api\.wandb|upsertBucket|entity \S+ not found|No API key|api_key not configured"
        r"|API key (?:verification )?fail|(?:wandb[.:]|CommError|W&B).*\b401\b|\b401\b.*//api\.wandb",
        "W&B refuses {who}: it has no key, or no right to write there: {error}",
        "is WANDB_API_KEY in .env, and of the right account (wandb login --relogin on a login node, "
        "https://wandb.ai/authorize shows it)? Are the entity and the project right (WANDB_ENTITY, WANDB_PROJECT, or "
        "those of wandb.init)? Or record offline (WANDB_MODE=offline in .env) and send it later:  bash "
        "hpc/sync_wandb.sh",
    ),
    Rule(
        "no access",
        r"\b429 (?:Client Error|Too Many|thrown)|HTTP Error 429|Too Many Requests|\b[Rr]ate limit",
        "the server refused {who}, as too many requests came from this address: {error}",
        "ask with a key (HF_TOKEN=… in .env has a higher limit), and less: download once on a login node into HF_HOME "
        "below the scratch, and set HF_HUB_OFFLINE=1, so that not every rank asks; then submit again",
    ),
    Rule(
        "no network",
        r"\b50[0234] (?:Server Error|Internal|Bad Gateway|Service)|HTTP Error 50\d|Bad Gateway|Service Unavailable"
        r"|Gateway Time-?out|Internal Server Error",
        "the server that {who} asked could not answer: {error}",
        "it is the server's trouble: wait, then  {again}   Data that were downloaded before (HF_HOME below the "
        "scratch, HF_HUB_OFFLINE=1) need no server",
    ),
    Rule(
        "no access",
        r"An error occurred \((?:40[134]|AccessDenied|NoSuchBucket|NoSuchKey|InvalidAccessKeyId|ExpiredToken"
        r"|SignatureDoesNotMatch)\)|Unable to locate credentials|NoCredentialsError|DefaultCredentialsError",
        "the object storage that {who} asked refused it, or has no such object: {error}",
        "are the bucket and the key right? Put the storage's credentials into .env (AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, AWS_ENDPOINT_URL if it is not Amazon's, GOOGLE_APPLICATION_CREDENTIALS), or copy the "
        "data on a login node to a folder below the scratch; then submit again",
    ),
    Rule(
        "no access",
        r"40[134] Client Error: .*url: https?://(?!\S*(?:huggingface\.co|hf\.co))(?P<server>[^/:\s]+)",
        "{server}, which {who} asked, refused it, or has no such page: {error}",
        "is the address right, and does {server} want a key or a login of its own (in .env)? Or download it on a "
        "login node to a folder below the scratch, and give its path; then submit again",
    ),
    Rule(
        "no access",
        r"gated repo|GatedRepo|RepositoryNotFound|40[134] (?:Client Error|Unauthorized|Forbidden)|HTTP Error 40[134]"
        r"|RevisionNotFound|EntryNotFoundError: 40|DatasetNotFound|does not appear to have a file named"
        r"|is not a valid model identifier|Invalid (?:user|username or) |is not a local folder"
        r"|Can't load (?:the )?\w[\w ]* for '",
        "{who} has no access to what it wanted to download, or there is no such thing: {error}",
        "is the name right? Accept its terms on its page, and put the key into .env (HF_TOKEN=…); or download it on a "
        "login node into HF_HOME below the scratch, and set HF_HUB_OFFLINE=1; then submit again",
    ),
    Rule(
        "W&B",
        r"wandb[.: ].*(?:CommError|[Tt]imed out|timeout|Error communicating|ERROR|Failed|UsageError|ServiceStart)",
        "W&B could not be reached, did not answer or did not start ({who}): {error}",
        "nodes without internet record offline: WANDB_MODE=offline in .env, and  bash hpc/sync_wandb.sh  on a login "
        "node; then submit again",
    ),
    Rule(
        "no network",
        r"couldn't connect to|Couldn't reach|Cannot reach|Name or service not known"
        r"|Temporary failure in name resolution|Failed to resolve|Max retries exceeded|Network is unreachable"
        r"|No route to host|LocalEntryNotFound|OfflineMode|outgoing traffic has been disabled"
        r"|[Cc]heck your (?:internet )?connection|(?:Connect|Read)Timeout|URLError|ProxyError"
        r"|CERTIFICATE_VERIFY_FAILED|SSLError|urlopen error|ConnectError",
        "{who} wanted something from the internet, which compute nodes mostly do not reach: {error}",
        "download it on a login node first, to a place that the nodes see (HF_HOME, TORCH_HOME or a folder below the "
        "scratch, set in .env), give paths in place of names, and set HF_HUB_OFFLINE=1; some sites have a proxy "
        "(https_proxy). Then submit again",
    ),
    Rule(
        "MPI",
        r"MPI_Init|PMI2?_Init|PMIX|OMPI was not built|MPI_ERRORS_ARE_FATAL|not enough slots|pmix_|MPIR_Init|ORTE",
        "MPI could not start as it was started ({who}): {error}",
        "the program's MPI and Slurm's must fit: srun --mpi=list tells what Slurm has; take the site's MPI module and "
        "mpi4py that was built with it; programs of torch need no MPI (backends nccl and gloo)",
    ),
    Rule(
        "unused parameters",
        r"Expected to have finished reduction in the prior iteration",
        "a parameter of {who} had no part in the loss, and DistributedDataParallel waits for its gradient",
        "DistributedDataParallel(…, find_unused_parameters=True), or take the parameters out that the loss does not "
        "use; TORCH_DISTRIBUTED_DEBUG=DETAIL in .env names them. Then submit again",
    ),
    Rule(
        "killed",
        r"[Kk]illed by SIGKILL|worker process has died|worker died or was killed|oom-kill|OOM [Kk]iller",
        "a worker process of {who} was killed, mostly for lack of memory: {error}",
        "{again} --mem {more_memory}   or take fewer workers",
    ),
    Rule(
        "no compiler",
        r"No working C\+\+ compiler|Failed to find C compiler|InvalidCxxCompiler|CppCompileError|Ninja is required"
        r"|CUDA_HOME environment variable is not set|unable to execute '?\w*(?:gcc|g\+\+|cc|nvcc)"
        r"|[Cc]ommand '?\[?'?\S*(?:gcc|g\+\+|cc|c\+\+|nvcc|ninja)\b.* (?:failed|returned)|ld: cannot find -l"
        r"|directory: '?(?:\S*/)?(?:gcc|g\+\+|cc|c\+\+|nvcc|ninja)'|Error compiling objects|Error building extension"
        r"|nvcc fatal|\w\.h(?:pp)?: No such file",
        "{who} compiles code when it runs (torch.compile, Triton, an extension), and the node has no compiler for "
        "that: {error}",
        "load a compiler in node_setup of the profile (module load gcc; CC and CXX in .env), or compile it once where "
        "there is one; or leave torch.compile away; then submit again",
    ),
    Rule(
        "allocation failed",
        r"MemoryError|can't allocate memory|Cannot allocate memory|Unable to allocate|bad_alloc|failed to map segment",
        "{who} could not get the memory that it asked for: {error}",
        "is the size right, and is there no limit of your shell (ulimit -v)? If so, more memory:  {again} --mem "
        "{more_memory}   or a smaller batch, fewer workers; else mend the program",
        cause=ENDED,
    ),
    Rule(
        "not picklable",
        r"[Cc]an't pickle|cannot (?:be )?pickle|PicklingError|Can't get (?:local )?(?:object|attribute) ",
        "{who} hands on, or loads, something that Python does not find by its name: {error}",
        "for another process, define it at the top of a module (a function in place of a lambda or of one within a "
        "function), open files and connections in the worker itself. For a checkpoint, its class must be in the same "
        "module, under the same name, as when it was saved (or save a state_dict); then submit again",
    ),
    Rule(
        "not finite",
        r"(?i)\bloss (?:is|was|became|=|:)?\s*(?:nan|inf)|FloatingPointError|nan loss|non-?finite|\bnan or inf"
        r"|\binf or nan|(?:returned|found|contains?|detected|encountered) (?:an? )?(?:nan|inf)|infs? or nans?"
        r"|scale (?:already|is) at (?:the )?minimum",
        "the loss or a gradient of {who} is NaN or infinite: {error}",
        "begin from an earlier checkpoint with a lower learning rate, clip gradients, look at the data of that step, "
        "bf16 in place of fp16; torch.autograd.set_detect_anomaly(True) names the operation",
    ),
    Rule(
        "configuration",
        r"omegaconf\.|hydra\.errors|Hydra\w*Exception|Cannot find primary config|Could not override|is not in struct"
        r"|Could not find '|MissingMandatoryValue|ConfigAttributeError|ConfigKeyError|InterpolationKeyError"
        r"|HFValidationError",
        "the program's configuration has no such key or file, or a value that it does not allow ({who}): {error}",
        "correct the key in the line of the configuration file (a new one: +key=value), or the program's own "
        "configuration; HYDRA_FULL_ERROR=1 in .env shows all; then submit again",
    ),
    Rule(
        "configuration",
        r"larger than the (?:maximum number of tokens|available KV cache)|KV cache is needed"
        r"|greater than the derived max_model_len|max_num_batched_tokens \S+ is smaller"
        r"|divisible by tensor (?:model )?parallel size|mem-fraction-static",
        "the serving engine of {who} cannot run with these limits on its GPUs: {error}",
        "a shorter context (max_model_len=…, --max-model-len) needs a smaller KV cache. Else give the engine more of "
        "the GPU (gpu_memory_utilization=0.95), a KV cache in fp8, or more GPUs: tensor_parallel_size=N, a divisor of "
        "the number of attention heads, with  --gpus N -W node ; then submit again",
    ),
    Rule(
        "launcher",
        r"--ntasks(?:-per-node)?=\d+.* (?:does not match|not supported)|number of (?:tasks|nodes) .*SLURM"
        r"|MisconfigurationException: You requested gpu|But your machine only has",
        "Lightning's number of devices or nodes is not the one that the job has ({who}): {error}",
        "submit it with  -W lightning --gpus N --num-nodes M , which starts one process for each GPU, and give the "
        "Trainer the same numbers: devices=N, num_nodes=M (the kit fills in {{gpus}} and {{nodes}} in the program's "
        "line); set no --ntasks of your own",
    ),
    Rule(
        "configuration",
        r"MisconfigurationException",
        "Lightning does not allow this combination of options or methods ({who}): {error}",
        "correct the Trainer's option or the method that it names; for devices and nodes: -W lightning, --gpus and "
        "--num-nodes; then submit again",
    ),
    Rule(
        "missing file",
        r"(?:FileNotFoundError|No such file or directory|NotADirectoryError)[^\n]*?'(?P<path>(?!/)[^'\n]+)'",
        "{who} found no file {path}; a relative path begins in the run directory's copy of the sources, and only the "
        "shell knows ~",
        "is it in git, or ignored (then it is not copied)? Data have a place of their own: --data, or a path in full; "
        "what an earlier run wrote lies below CHECKPOINT_DIRECTORY. In place of ~: $HOME in the line, "
        "os.path.expanduser in the program. Then submit again",
        cause=ENDED,
    ),
    Rule(
        "missing file",
        r"FileNotFoundError|No such file or directory|NotADirectoryError",
        "{who} found no such file: {error}{file}",
        "does the path exist on the nodes (/tmp and home may be others there), in the container (only mounted folders "
        "are)? Correct it, or stage the data with --data; then submit again",
    ),
    Rule(
        "ended by a signal",
        r"KeyboardInterrupt",
        "{who} was interrupted (SIGINT)",
        "{again}   if nobody meant it",
    ),
    Rule(
        "aborted at exit",
        r"terminate called without an active exception",
        "{who} aborted while Python exited, as threads of torch still ran: its work may be complete",
        "look at what it has printed and saved. End the program with os._exit(0) behind destroy_process_group(), after "
        "sys.stdout.flush(). If its work is not complete, submit again",
        cause=r"^failed 134",
    ),
    CRASHED._replace(
        log=r"Segmentation fault|SIGSEGV|double free|corrupted size|free\(\): invalid|malloc\(\)|stack smashing"
        r"|core dumped",
        sentence="{who} crashed in compiled code: {error}",
        cause=r"^failed (?!13[4569])",
    ),
    Rule(
        "bad request",
        r"^\S*\.sh: error: (?P<error>.*)",
        "{error} ({who})",
        "do as it says, then submit again",
        cause=r"^failed [12] |^not_started",
    ),
)
