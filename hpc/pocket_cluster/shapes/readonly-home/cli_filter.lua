-- Refuses sbatch on compute nodes.
function slurm_cli_setup_defaults(_, _)
  return slurm.SUCCESS
end

function slurm_cli_pre_submit(options, _)
  local file = io.open("/proc/sys/kernel/hostname")
  local host = file and file:read("*l") or ""
  if file then file:close() end
  if options["type"] == "sbatch" and string.match(host, "^trig%d+$") then
    slurm.log_error("Jobs cannot be submitted from compute nodes.")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end

function slurm_cli_post_submit(_, _, _)
  return slurm.SUCCESS
end
