-- Functions for the rules of several shapes. slurmctld calls slurm_job_submit for each job. A shape's own file, appended to
-- this one, defines `rules(job)`, which returns slurm.SUCCESS or refuse(WORDS).

function refuse(words)
  slurm.log_user("%s", words)
  return slurm.ERROR
end

-- Returns the GPUs of a job: `count` on each node (0: none), and the requested `kind` (nil: none given).
-- Slurm writes gres:gpu:h100:2, and from 23.11 on gres/gpu:h100:2.
function gpus_of(job)
  local nodes = nodes_of(job)
  local tasks = job.ntasks_per_node
  if tasks == nil or tasks == slurm.NO_VAL16 then tasks = 1 end
  local count, kind = 0, nil
  for _, asked in ipairs({
    { job.tres_per_node, 1 },
    { job.tres_per_job, 1 / nodes },
    { job.tres_per_task, tasks },
    { job.tres_per_socket, 1 },
  }) do
    for word in string.gmatch(asked[1] or "", "[^,]+") do
      local rest = string.match(word, "^gres[:/]gpu(.*)$") or string.match(word, "^gpu(.*)$")
      if rest then
        local named, number = string.match(rest, "^:([%w_.-]*%a[%w_.-]*)[:=]?(%d*)$")
        number = number or string.match(rest, "(%d+)$")
        count = count + (tonumber(number) or 1) * asked[2]
        kind = named or kind
      end
    end
  end
  return count, kind
end

function nodes_of(job)
  if job.min_nodes == nil or job.min_nodes == slurm.NO_VAL then return 1 end
  return job.min_nodes
end

-- Returns the time limit in minutes; nil if none is given.
function time_of(job)
  if job.time_limit == slurm.NO_VAL then return nil end
  return job.time_limit
end

function asks_memory(job)
  return job.pn_min_memory ~= nil and job.pn_min_memory ~= slurm.NO_VAL64
end

-- Whether -C names this feature.
function has_feature(job, name)
  for word in string.gmatch(job.features or "", "[^&|,()*%[%] ]+") do
    if word == name then return true end
  end
  return false
end

-- Returns the number of jobs that the user would have with this one; each element of an array counts. If several jobs are
-- submitted within a second, the plugin sees only the first of them.
function jobs_with(job)
  local count = 0
  for _, other in pairs(slurm.jobs) do
    -- PENDING, RUNNING, SUSPENDED: the low byte of the state.
    if other.user_id == job.user_id and other.job_state % 256 <= 2 then count = count + math.max(other.array_task_cnt or 0, 1) end
  end
  for word in string.gmatch(string.gsub(job.array_inx or "0", "%%.*", ""), "[^,]+") do
    local first, last, step = string.match(word, "^(%d+)-(%d+):?(%d*)$")
    count = count + (first and math.floor((last - first) / (tonumber(step) or 1)) or 0) + 1
  end
  return count
end

function slurm_job_submit(job, _, _)
  return rules(job)
end

function slurm_job_modify(_, _, _, _)
  return slurm.SUCCESS
end
