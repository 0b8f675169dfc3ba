local accounts = { ["def-mine"] = true, ["rrg-ours"] = true }
local most_jobs = 10

function rules(job)
  local gpus, kind = gpus_of(job)
  local minutes = time_of(job)
  if job.partition ~= nil and job.partition ~= "default" then
    return refuse("You have specified the partition " .. job.partition .. ": do not give a partition, it is chosen for you.")
  end
  if job.account == nil then
    slurm.log_user("You are associated with multiple _%s allocations...", gpus > 0 and "gpu" or "cpu")
    slurm.log_user("Please specify one of the following accounts to submit this job:")
    slurm.log_user("  RAS default accounts: def-mine,")
    slurm.log_user("          RAC accounts: rrg-ours,")
    return refuse("Use the parameter --account=desired_account when submitting your job")
  end
  local account = string.gsub(string.gsub(job.account, "_gpu$", ""), "_cpu$", "")
  if not accounts[account] then
    slurm.log_user("You are not a member of the account %s: yours are def-mine, rrg-ours", job.account)
    return slurm.ERROR
  end
  if minutes == nil then return refuse("Please specify a time limit: --time") end
  if gpus > 0 and kind == nil then
    return refuse("Please specify the type of GPU: --gpus-per-node=TYPE:N, of h100, nvidia_h100_80gb_hbm3_1g.10gb")
  end
  if jobs_with(job) > most_jobs then
    return refuse("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)")
  end
  job.account = account .. (gpus > 0 and "_gpu" or "_cpu")
  if gpus == 0 then
    job.partition = minutes <= 180 and "cpubase_bycore_b1" or "cpubase_bycore_b5"
  else
    job.partition = minutes <= 180 and "gpubase_bygpu_b1" or minutes <= 1440 and "gpubase_bygpu_b3" or "gpubase_bygpu_b5"
  end
  return slurm.SUCCESS
end
