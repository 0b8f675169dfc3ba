local cpus_of_quarter, memory_of_quarter = 4, 16000

-- The numbers for each node.
local function tasks_of(job)
  local tasks = job.ntasks_per_node
  if tasks ~= nil and tasks ~= slurm.NO_VAL16 then return tasks end
  tasks = job.num_tasks
  if tasks == nil or tasks == slurm.NO_VAL then return 1 end
  return math.ceil(tasks / nodes_of(job))
end

local function cpus_of(job)
  local cpus = job.cpus_per_task
  if cpus == nil or cpus == slurm.NO_VAL16 then cpus = 1 end
  return tasks_of(job) * cpus
end

local function memory_of(job, gpus)
  local a_gpu = string.match(job.mem_per_tres or "", "gpu:(%d+)")
  if a_gpu then return tonumber(a_gpu) * gpus end
  if job.min_mem_per_cpu ~= nil then return job.min_mem_per_cpu * cpus_of(job) end
  return job.min_mem_per_node or 0
end

function rules(job)
  local gpus = gpus_of(job)
  local cpus, memory = cpus_of(job), memory_of(job, gpus)
  local quarters = math.max(math.ceil(gpus), 1)
  if gpus == 0 then quarters = math.max(math.ceil(cpus / cpus_of_quarter), math.ceil(memory / memory_of_quarter), 1) end
  if job.name and string.match(job.name, "[^%w._/-]") then
    return refuse("The job name " .. job.name .. " is not allowed: use letters, digits and . _ / -")
  end
  if cpus > quarters * cpus_of_quarter then
    return refuse(cpus .. " CPUs are more than go with " .. quarters .. " GPUs: " .. quarters * cpus_of_quarter)
  end
  if memory > quarters * memory_of_quarter then
    return refuse(memory .. " MB are more than go with " .. quarters .. " GPUs: " .. quarters * memory_of_quarter)
  end
  -- Slurm allocates whole tasks: each gets its share of the quarters.
  job.cpus_per_task = math.floor(quarters * cpus_of_quarter / tasks_of(job))
  job.min_cpus = job.cpus_per_task * tasks_of(job) * nodes_of(job)
  if job.mem_per_tres == nil then job.min_mem_per_node = quarters * memory_of_quarter end
  -- The prolog reads it.
  if string.find(job.tres_per_node or "", "tmpfs") and not has_feature(job, "scratch-node") then
    job.features = (job.features and job.features .. "&" or "") .. "scratch-node"
  end
  return slurm.SUCCESS
end
