"""More rules of why.py about exceptions: which lines above them say more, and advice by type for unknown messages.

The form is that of why_rules.py; the first rule that fits counts.
"""

from why_rules import EXCEPTION, INDEX, Rule

# (pattern of the exception, words of rules): if such a rule fits a line above the exception, it is used.
ABOVE = (
    (r"CUDA|NCCL|HIP", ("broken GPU",)),
    (r"ncclSystemError|ncclInternalError|unhandled system error", ("NCCL",)),
    (r"^(?:ModuleNotFound|Import)Error", ("environment", "module")),
    (
        r"LocalEntryNotFound|couldn't connect to|Couldn't reach|Max retries exceeded|on the H\w+ ?F?\w* ?Hub",
        ("no access",),
    ),
)

IMPORT = Rule(
    "import error",
    None,
    "an import failed ({who}): {error}",
    "the packages do not fit each other, a library is missing, or the name is not in that module:  pip check  names "
    "what does not fit; set versions that belong together in the requirements (torch, torchvision and torchaudio of "
    "one release and CUDA), install them by  {install} , and load the modules of the site that they need in "
    "node_setup of the profile; then submit again",
)


def _exception(log, advice):
    return EXCEPTION._replace(log=log, remedy=f"{advice} Then {EXCEPTION.remedy}")


BY_KIND = (
    IMPORT._replace(
        log=r"\bImportError: |^ImportError|Failed to import \S+|CUDA [Ss]etup failed|operator \S+::\S+ does not exist"
        r"|PackageNotFoundError|DistributionNotFound|VersionConflict|was removed in the NumPy 2|\bpip3? install\b"
        r"|[Pp]lease install "
    ),
    Rule(
        "versions differ",
        r"unsupported pickle protocol|variant of untagged enum|does not recognize this architecture"
        r"|is newer than (?:and incompatible|the)|written by a newer version|detected CUDA version"
        r"|[Vv]ersion.* does not match",
        "{who} has another version of a package than this needs: {error}",
        "install the version that belongs to the file, or to the other package ({install} after it was "
        "changed in the requirements); then submit again",
    ),
    Rule(
        "checkpoint mismatch",
        r"(?i)checkpoint.*(?:different|mismatch|not match|world size|incompatible)|(?:mis|not )match.* checkpoint",
        "the checkpoint that {who} loaded is of another model, or of another number of ranks: {error}",
        "go on with the options and the number of ranks that it was made with, or name another checkpoint (--fresh "
        "starts from the beginning)",
    ),
    Rule(
        "configuration",
        r"^pydantic\S*ValidationError|[Cc]onfig(?:uration)? (?:file )?.*(?:invalid|missing|not found)",
        "the program cannot read its configuration ({who}): {error}",
        "correct the file or the key that it names; then submit again",
    ),
    Rule(
        "missing file",
        r"[Nn]o (?:valid )?(?:checkpoints?|files?|data) (?:(?:was|were) )?(?:found|in )|[Ff]ound 0 (?:files|images)"
        r"|does ?n[o']t exist|[Cc]ould ?n[o']t find (?:any |the )?(?:file|checkpoint|data)",
        "{who} found nothing where it looked: {error}",
        "does the path exist on the nodes (/tmp and home may be others there)? A relative one begins in the run's "
        "copy of the sources, and what an earlier run wrote lies below CHECKPOINT_DIRECTORY. Correct it, then submit "
        "again",
    ),
    Rule(
        "not finite",
        r"(?i)(?<!no )\b(?:nans?|infs?|infinity)\b(?! check)",
        "a value of {who} is NaN or infinite: {error}",
        "look for the first step that has one (torch.autograd.set_detect_anomaly(True) names the operation): a lower "
        "learning rate, clipped gradients, bf16 in place of fp16, the data of that step; begin from an earlier "
        "checkpoint",
    ),
    Rule(
        "no network",
        r"Connection ?[Rr]efused|Connection aborted|RemoteDisconnected|ServerDisconnected|ConnectionError|gaierror"
        r"|Connection timed out",
        "{who} reached no server: {error}",
        "does it run, on that node and port? Nodes mostly do not reach the internet: download on a login node first; "
        "then submit again",
    ),
    Rule(
        "file system",
        r"disk I/O error|unable to open database file|Device or resource busy|Directory not empty|\[Errno 52[13]\]",
        "{who} could not do that on this file system: {error}",
        "several ranks, or jobs, use the same file or folder: let one rank write or remove it (the others wait at a "
        "barrier), or take a folder of SLURM_TMPDIR; then submit again",
    ),
    _exception(
        r"^torch\._dynamo|^torch\._inductor|BackendCompilerFailed|PassManager|^triton",
        "does it run without torch.compile, or without fullgraph=True?",
    ),
    _exception(r"^KeyError: '[A-Z][A-Z0-9]*_[A-Z0-9_]+'", "is that a variable of the environment? Set it in .env."),
    _exception(
        r"does not require grad|does not have a grad_fn|None of the inputs have requires_grad",
        "nothing that the loss comes from can be trained: are all parameters frozen (requires_grad, LoRA without "
        "target modules, a model in inference mode), is the forward pass under torch.no_grad, or the loss detached "
        "(.item(), .detach(), argmax)? With gradient checkpointing and frozen layers: use_reentrant=False, or "
        "model.enable_input_require_grads().",
    ),
    _exception(
        r"shapes? .*(?:cannot|invalid|mismatch|align)|[Ss]izes? (?:mismatch|of tensors? must)"
        r"|must match the (?:existing )?size|expects each tensor|expected sequence of length|[Ii]nhomogeneous"
        r"|could not be broadcast|[Dd]imension|expected input.* to have|to have \d+ channels|view size is not"
        r"|batch.size",
        "print the shapes before that line: the data, the last and smaller batch, or an option of the model differ "
        "from what it expects.",
    ),
    _exception(
        r"on the same device|two devices|Input type .* and weight type|[Ee]xpected .*device",
        "move both to the rank's device, .to(device): what a module holds as a plain tensor is not moved with it "
        "(register_buffer).",
    ),
    _exception(
        r"expected scalar type|\bdtype|not implemented for '|same type|[Ff]loat16|BFloat16|\bHalf\b",
        "the types of the numbers differ: convert one (.to(dtype)), or run it under torch.autocast.",
    ),
    _exception(
        r"unexpected keyword argument|got multiple values for|required positional argument|positional arguments? but"
        r"|got an unexpected|(?:module|type object) '\S+' has no attribute|[Dd]eprecated|no longer supported"
        r"|was removed",
        "is the installed version of the package (pip show) the one that the program was written for? If not, set "
        "that in the requirements.",
    ),
    _exception(
        r"JSON parse error: Column|CastError|Couldn't cast|ArrowTypeError|ArrowInvalid: (?:Could not conv|cannot mix)",
        "the rows, or the files, do not all have the same columns and types: make them alike, or give load_dataset "
        "features=Features({{…}}).",
    ),
    _exception(
        r"index out of range in self|Target -?\d+ is out of bounds|Class values must be"
        r"|index -?\d+ is out of bounds for dim",
        f"{INDEX}.",
    ),
    _exception(r"^KeyError|^IndexError", "does what it reads (data, configuration, checkpoint) have that entry?"),
    _exception(r"FileExistsError|File exists", "several ranks may make it at once: os.makedirs(…, exist_ok=True)."),
    _exception(r"cross-device link", "a rename does not cross file systems: shutil.move, or write beside the target."),
    _exception(r"AF_UNIX path too long", "set TMPDIR in .env to a shorter path."),
    _exception(
        r"\bDISPLAY|no display|GLFW|\bEGL|OpenGL|GLX",
        "nodes have no display: MPLBACKEND=Agg, MUJOCO_GL=egl in .env.",
    ),
    _exception(
        r"EOF when reading a line|not a (?:tty|terminal)",
        "a job has no terminal to answer at: give it as an option.",
    ),
    _exception(r"^yaml\.|^toml|JSONDecodeError", "is the file that it reads whole? Correct it."),
    _exception(r"codec can't", "set PYTHONUTF8=1 in .env."),
    _exception(r"MDB_MAP_FULL", "give lmdb.open a larger map_size."),
    _exception(r"DataLoader timed out", "the files may be slow to read: --data copies them to the nodes' disks."),
    _exception(
        r"between collectives|across (?:all )?ranks|[Rr]anks have",
        "the ranks do not take the same steps: look for a branch of one rank alone, or uneven data.",
    ),
)

# Which disk is full, by the message and the files in the stack.
PLACES = (
    (
        r"[Qq]uota|EDQUOT",
        "the log names no folder: quotas are of your home, of the project's folder and of {scratch}",
    ),
    (
        r"/torch/_inductor/|/triton/",
        "torch.compile and Triton keep what they compile in /tmp of {node}: name a folder of the scratch in .env "
        "(TORCHINDUCTOR_CACHE_DIR, TRITON_CACHE_DIR, TMPDIR)",
    ),
    (
        r"/multiprocessing/(?:synchronize|heap|shared_memory|popen)|/torch/multiprocessing/reductions",
        "processes share memory in /dev/shm of {node}: take fewer loader workers",
    ),
    (
        r"/tempfile\.py|/shutil\.py",
        "temporary files lie in /tmp of {node}: set TMPDIR in .env to a folder of the scratch",
    ),
    (
        r"",
        "the log names no folder: it may be /tmp of {node} (set TMPDIR in .env to a folder of the scratch), its "
        "/dev/shm (take fewer loader workers), or {scratch}",
    ),
)
