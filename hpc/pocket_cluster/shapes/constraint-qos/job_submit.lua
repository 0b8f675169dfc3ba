local longest = { debug = 30, regular = 2880, shared = 2880 }

function rules(job)
  local gpus = gpus_of(job)
  local minutes = time_of(job)
  local qos = job.qos or "debug"
  local limit = longest[qos]
  if job.account == nil then return refuse("Job request must specify an account: -A") end
  if not has_feature(job, "gpu") and not has_feature(job, "cpu") then
    return refuse("Job request does not match any supported policy: it must specify a constraint, -C gpu or -C cpu")
  end
  if has_feature(job, "gpu") ~= (string.sub(job.account, -2) == "_g") then
    return refuse("The account " .. job.account .. " does not go with the constraint " .. job.features .. ": accounts for GPUs end with _g")
  end
  if gpus > 0 and not has_feature(job, "gpu") then return refuse("GPUs must be asked for with the constraint gpu: -C gpu") end
  if limit == nil then return refuse("Invalid qos specification") end
  if minutes ~= nil and minutes > limit then
    return refuse("The time limit of the QOS " .. qos .. " is " .. limit .. " minutes" .. (job.qos and "" or ": another one is asked for with -q"))
  end
  job.qos = ""
  return slurm.SUCCESS
end
