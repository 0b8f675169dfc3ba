local most_jobs = 3

local function is_given(value)
  return value ~= nil and value ~= slurm.NO_VAL and value ~= slurm.NO_VAL16
end

-- From Slurm 24.05 on, --cpus-per-task is written there, too.
local function asks_more_than_cpus(tres)
  local rest = string.gsub(tres or "", "cpu[:=]%d+", "")
  return rest ~= ""
end

function rules(job)
  if job.tres_per_node or job.tres_per_job or asks_more_than_cpus(job.tres_per_task) or job.tres_per_socket then
    return refuse("GPUs are not requested by an option: --gres and --gpus are not supported; choose a queue (-p) that has them.")
  end
  if asks_memory(job) then return refuse("--mem is not supported: jobs have all the memory of their nodes.") end
  if job.partition == nil then return refuse("You must specify a queue: -p") end
  if not is_given(job.min_nodes) then return refuse("You must specify a number of nodes: -N") end
  if not is_given(job.num_tasks) and not is_given(job.ntasks_per_node) then
    return refuse("You must specify a number of tasks: -n or --ntasks-per-node")
  end
  if time_of(job) == nil then return refuse("You must specify a time: -t") end
  if jobs_with(job) > most_jobs then
    return refuse("You would have more than " .. most_jobs .. " jobs in the queues, which is the limit.")
  end
  return slurm.SUCCESS
end
