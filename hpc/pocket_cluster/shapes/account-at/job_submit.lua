local partitions = { v100 = "gpu_p13", h100 = "gpu_p6", cpu = "cpu_p1" }

function rules(job)
  local gpus = gpus_of(job)
  local kind = "cpu"
  if gpus > 0 then kind = has_feature(job, "h100") and "h100" or "v100" end
  if asks_memory(job) or job.mem_per_tres ~= nil then
    return refuse("Memory is not requested (--mem, --mem-per-cpu, --mem-per-gpu): it comes with the CPUs (--cpus-per-task).")
  end
  if job.account == nil then return refuse("You must specify an account: --account=abc@v100, abc@h100 or abc@cpu") end
  if string.match(job.account, "@(%w+)$") ~= kind then
    return refuse("The account " .. job.account .. " is not for " .. kind .. ": use --account=abc@" .. kind)
  end
  job.partition = job.partition or partitions[kind]
  job.qos = ""
  return slurm.SUCCESS
end
