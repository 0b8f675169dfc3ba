function rules(job)
  local gpus = gpus_of(job)
  local minutes = time_of(job)
  if gpus > 0 and job.environment and job.environment["POCKET_LOGIN"] == "cpu" then
    return refuse("GPU jobs must be submitted from the GPU login node.")
  end
  if minutes ~= nil and minutes < 15 then return refuse("The minimum walltime is 15 minutes.") end
  if gpus > 0 and gpus ~= 4 and not (gpus == 1 and nodes_of(job) == 1) then
    return refuse("Jobs can use either 1 GPU (a quarter of a node) or all 4 GPUs of each node: use --gpus-per-node=1 or --gpus-per-node=4.")
  end
  -- Replaces the request: each GPU comes with a quarter of the node, and a CPU job gets the whole node.
  job.min_mem_per_node = 15000 * (gpus > 0 and gpus or 4)
  return slurm.SUCCESS
end
